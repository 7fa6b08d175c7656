"""The message of a campaign, with the places that each recipient's parameters fill. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson

from waemitter.errors import PayloadError
from waemitter.whatsapp.payloads import check

_PLACE: Final = re.compile(r"\{\{\s*(\w{1,64})\s*\}\}")


class Form:
    """A payload of the Cloud API whose texts may hold `{{name}}`: filled once, and frozen in the recipient's row.

    Raises PayloadError for a payload that Meta would refuse whatever the places are filled with.
    """

    def __init__(self, message_type: str, payload: Mapping[str, Any]) -> None:
        self.message_type = message_type
        self.payload = payload
        # In JSON text {{ can stand nowhere but inside a string.
        self._pieces = _PLACE.split(orjson.dumps(payload).decode())
        self.names = frozenset(self._pieces[1::2])
        if not self.names:
            check(message_type, payload)

    def require(self, columns: Collection[str]) -> None:
        """Raise PayloadError when a place has no column to fill it."""
        for name in sorted(self.names.difference(columns, ("recipient",))):
            there = ", ".join(columns) or "none"
            raise PayloadError(
                "payload", f"{{{{{name}}}}} is no parameter of the recipients; they have: {there}"
            )

    def fill(self, address: str, parameters: Mapping[str, str]) -> str:
        """Return the recipient's own payload as JSON text. Raises PayloadError, which names what is wrong."""
        if not self.names:
            return self._pieces[0]
        pieces = list(self._pieces)
        for place in range(1, len(pieces), 2):
            name = pieces[place]
            value = parameters.get(name, address if name == "recipient" else "")
            if not value:
                raise PayloadError(f"parameter {name}", "is missing or empty")
            pieces[place] = orjson.dumps(value).decode()[1:-1]
        text = "".join(pieces)
        check(self.message_type, orjson.loads(text))
        return text


def template_payload(
    name: str, language: str, *, columns: Sequence[str], parameters: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a template message whose body is filled by `parameters`, which may hold `{{column}}`.

    Without any, each of the recipients' columns fills the variable of its name: 1, 2 … by place,
    and if there are others, all of them by name.
    """
    if parameters:
        body = [{"type": "text", "text": text} for text in parameters]
    elif all(column.isdecimal() for column in columns):
        body = [{"type": "text", "text": f"{{{{{n}}}}}"} for n in sorted(columns, key=int)]
    else:
        body = [
            {"type": "text", "parameter_name": column, "text": f"{{{{{column}}}}}"}
            for column in columns
        ]
    components = [{"type": "body", "parameters": body}] if body else []
    return {"template": {"name": name, "language": {"code": language}, "components": components}}
