"""What stands around a message's content: the keys that every payload may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from waemitter.errors import PayloadError

LONGEST_ECHO: Final = 512
"""Characters that Meta keeps of `biz_opaque_callback_data` and returns in status webhooks."""


def complaints(message_type: str, given: Mapping[str, Any]) -> Iterator[PayloadError]:
    """Yield what is wrong with the keys around the content, and with the content's being there."""
    if len(given) == 1 and message_type in given and message_type != "pin":
        return  # nothing stands around it: nearly every message
    if not message_type:
        yield PayloadError("message_type", "is empty: name the Cloud API's type, like text")
    for key in ("to", "recipient"):
        if key in given:
            reason = "leave it out: the recipient column names the recipient"
            yield PayloadError(f"payload.{key}", reason)
    if given.get("messaging_product", "whatsapp") != "whatsapp":
        yield PayloadError("payload.messaging_product", "must be whatsapp, or be left out")
    if given.get("type", message_type) != message_type:
        yield PayloadError("payload.type", f"contradicts message_type {message_type}: leave it out")
    if given.get("recipient_type") not in (None, "individual", "group"):
        reason = "must be individual or group, or be left out"
        yield PayloadError("payload.recipient_type", reason)
    yield from _context_complaints(message_type, given)
    yield from _echo_complaints(given.get("biz_opaque_callback_data"))
    if message_type and message_type not in given:
        reason = "is missing: a payload has one key named like its type"
        yield PayloadError(f"payload.{message_type}", reason)
    if message_type == "pin" and given.get("recipient_type") != "group":
        yield PayloadError(
            "payload.recipient_type", "must be group: messages are pinned there only"
        )


def _context_complaints(message_type: str, given: Mapping[str, Any]) -> Iterator[PayloadError]:
    context = given.get("context")
    if context is None:
        return
    if not isinstance(context, Mapping):
        reason = 'must be an object like {"message_id": "wamid.…"}'
        yield PayloadError("payload.context", reason)
    elif not context.get("message_id"):
        yield PayloadError("payload.context.message_id", "is missing: name the message replied to")
    if message_type == "reaction":
        yield PayloadError("payload.context", "leave it out: a reaction cannot quote a message")


def _echo_complaints(echo: Any) -> Iterator[PayloadError]:
    field = "payload.biz_opaque_callback_data"
    if echo is None:
        return
    if not isinstance(echo, str):
        yield PayloadError(field, "must be text")
    elif len(echo) > LONGEST_ECHO:
        reason = f"has {len(echo)} characters: at most {LONGEST_ECHO} are allowed"
        yield PayloadError(field, reason)
