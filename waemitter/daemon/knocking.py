"""A webhook to ourselves, as Meta would send it: it shows that the way in is open, and changes nothing."""

from __future__ import annotations

from typing import Final

import aiohttp

from waemitter.whatsapp import signature

PATH: Final = "/webhooks/whatsapp"
EMPTY: Final = b'{"object":"whatsapp_business_account","entry":[]}'
"""A webhook with nothing in it: it is journalled, and that is all."""
WITHIN: Final = aiohttp.ClientTimeout(total=5)
UNREACHABLE: Final = 0


async def knock(session: aiohttp.ClientSession, address: str, secret: str) -> int:
    """Post it, signed; returns the answer's status, UNREACHABLE when there was none."""
    headers = {
        "Content-Type": "application/json",
        "X-Hub-Signature-256": signature.sign(secret, EMPTY),
    }
    try:
        # Our own certificate is for the name that the world calls.
        async with session.post(
            f"{address}{PATH}", data=EMPTY, headers=headers, timeout=WITHIN, ssl=False
        ) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return UNREACHABLE
