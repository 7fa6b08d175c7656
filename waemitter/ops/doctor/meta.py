"""Meta, asked for the health of each number; it costs no message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from waemitter.ops.doctor.finding import Finding, ok, problem, skipped, warning
from waemitter.settings import ChannelSettings, Settings
from waemitter.whatsapp.client import GraphClient, open_session
from waemitter.whatsapp.errors import Refused

CHECK: Final = "number"
WITHIN: Final = 10.0  # seconds

EXPIRED: Final = (
    "make a token for a system user (Business settings, System users) with whatsapp_business_messaging and "
    "whatsapp_business_management, and set it as WHATSAPP_ACCESS_TOKEN"
)
REMEDIES: Final = {
    190: EXPIRED,
    0: EXPIRED,
    10: "give the token's system user the WhatsApp account, and the token whatsapp_business_messaging",
    200: "give the token's system user the WhatsApp account, and the token whatsapp_business_messaging",
    100: (
        "WHATSAPP_PHONE_NUMBER_ID is the id under the number in WhatsApp's API setup, neither the phone number nor the "
        "account's id; the token must belong to that account"
    ),
    33: "register the number again: it was deleted",
}
UNREACHABLE: Final = "let this machine reach graph.facebook.com:443, or correct WHATSAPP_API_URL"


async def meta_findings(settings: Settings) -> AsyncIterator[Finding]:
    async with open_session(connections=1) as session:
        for channel in settings.channels:
            if channel.phone_number_id is None or channel.access_token is None:
                yield skipped(CHECK, f"{channel.name} has no token or number id")
                continue
            client = GraphClient(
                session,
                base_url=settings.whatsapp.api_url,
                phone_number_id=channel.phone_number_id,
                access_token=channel.access_token.get_secret_value(),
                total_timeout=WITHIN,
                connect_timeout=WITHIN / 2,
            )
            yield await _number(channel, client)


async def _number(channel: ChannelSettings, client: GraphClient) -> Finding:
    found = await client.health_status()
    who = f"{channel.name} ({channel.phone_number_id})"
    if isinstance(found, Refused):
        remedy = UNREACHABLE if found.code is None else REMEDIES.get(found.code)
        code = "" if found.code is None else f" ({found.code})"
        said = f"{who}: Meta refuses{code}: {found.message}"
        return problem(CHECK, said, remedy or "docs/operating.md tells of Meta's error codes")
    said = "; ".join((f"{who}: {found.can_send_message}", *found.problems))
    if not found.sends:
        return problem(
            CHECK, said, "open WhatsApp Manager: the named part needs somebody's attention"
        )
    if found.problems:
        return warning(CHECK, said, "it sends, but not without limits; WhatsApp Manager says more")
    return ok(CHECK, said)
