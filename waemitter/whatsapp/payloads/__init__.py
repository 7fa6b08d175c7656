"""Payload checks: what Meta would refuse for its shape or a limit is refused before it is sent.

Each message type of the Cloud API is a pydantic model with Meta's documented limits (its message
reference and its OpenAPI description, v23 to v26). They are kept on the safe side: an unknown key,
message type, interactive type or parameter type passes, and so does a value on which Meta's
documentation is silent or contradicts itself. Pure: no clock, no loop, no wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from waemitter.errors import PayloadError
from waemitter.whatsapp.payloads import content, envelope
from waemitter.whatsapp.payloads.complaints import complaint
from waemitter.whatsapp.payloads.envelope import LONGEST_ECHO
from waemitter.whatsapp.payloads.interactive import Interactive
from waemitter.whatsapp.payloads.template import Template

__all__ = ["LONGEST_ECHO", "check", "problems"]

_CONTENTS: Final[dict[str, TypeAdapter[Any]]] = {
    "text": TypeAdapter(content.Text),
    "image": TypeAdapter(content.Captioned),
    "video": TypeAdapter(content.Captioned),
    "audio": TypeAdapter(content.Audio),
    "document": TypeAdapter(content.Document),
    "sticker": TypeAdapter(content.Media),
    "location": TypeAdapter(content.Location),
    "contacts": TypeAdapter(content.Contacts),
    "reaction": TypeAdapter(content.Reaction),
    "pin": TypeAdapter(content.Pin),
    "template": TypeAdapter(Template),
    "interactive": TypeAdapter(Interactive),
}


def check(message_type: str, payload: Mapping[str, Any]) -> None:
    """Do nothing for a payload that Meta takes, as far as can be told here; raises PayloadError.

    The error names the JSON path at fault (`payload.interactive.action.buttons[1].reply.title`), the
    limit and what to do; of several problems it is the first.
    """
    for problem in _problems(message_type, payload):
        raise problem


def problems(message_type: str, payload: Mapping[str, Any]) -> list[PayloadError]:
    """Return every problem of a payload, from the outside in; none for one that Meta takes."""
    return list(_problems(message_type, payload))


def _problems(message_type: str, payload: Mapping[str, Any]) -> Iterator[PayloadError]:
    yield from envelope.complaints(message_type, payload)
    shape = _CONTENTS.get(message_type)
    if shape is None or message_type not in payload:
        return
    try:
        shape.validate_python(payload[message_type])
    except ValidationError as error:
        for details in error.errors(include_url=False):
            yield complaint(f"payload.{message_type}", details)
