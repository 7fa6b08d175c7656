"""Chatwoot, asked whether its token is good, and whether each inbox is there; it sends nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

from waemitter.chatwoot.client import Answered, ChatwootClient, Reply
from waemitter.ops.doctor.finding import Finding, ok, problem, skipped
from waemitter.settings import Settings
from waemitter.whatsapp.client import open_session

CHECK: Final = "chatwoot"
WITHIN: Final = 10.0  # seconds


async def chatwoot_findings(settings: Settings) -> AsyncIterator[Finding]:
    """Nothing, where no Chatwoot is configured."""
    chatwoot = settings.chatwoot
    if chatwoot.base_url is None:
        return
    if chatwoot.api_token is None or chatwoot.account_id is None:
        yield skipped(CHECK, "it has no token or account")
        return
    async with open_session(connections=1) as session:
        client = ChatwootClient(
            session,
            base_url=chatwoot.base_url,
            account_id=chatwoot.account_id,
            api_token=chatwoot.api_token.get_secret_value(),
            total_timeout=WITHIN,
            connect_timeout=WITHIN / 2,
        )
        for desk in settings.desks:
            where = "all inboxes" if desk.inbox_id is None else f"inbox {desk.inbox_id}"
            reply = await client.conversations(desk.inbox_id, page=1)
            yield _finding(f"{desk.name} ({where})", reply)


def _finding(who: str, reply: Reply) -> Finding:
    if isinstance(reply, Answered) and reply.good:
        return ok(CHECK, f"{who}: its conversations are listed")
    if not isinstance(reply, Answered):
        remedy = "let this machine reach it, or correct CHATWOOT_BASE_URL"
        return problem(CHECK, f"{who}: it does not answer ({reply.reason})", remedy)
    said = f"{who}: it answers {reply.status}"
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return problem(
            CHECK,
            said,
            "set CHATWOOT_API_TOKEN to the access token of an agent of the inbox, or of its bot",
        )
    return problem(CHECK, said, "correct CHATWOOT_BASE_URL, CHATWOOT_ACCOUNT_ID or the inbox_id")
