"""Replies as people write them in waemitter.toml, made into Cloud API objects. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from waemitter.errors import PayloadError
from waemitter.turns.answers import faults
from waemitter.turns.handlers.reply import filled, unknown_places
from waemitter.turns.turn import Contact

MEDIA: Final = ("image", "video", "audio", "document", "sticker")
KEYS: Final = ("text", "buttons", "list", "template", *MEDIA, "location", "messages")

_SOMEBODY: Final = Contact(0, "10000000000", None, "+10000000000", "N" * 20)


def canned(written: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Make the messages of a reply.

    `text` alone is a text; with `buttons` (words, or tables with id and title) or `list` it is their body; it follows media.
    `template`, media and `location` are tables as in the Cloud API, `template` with a shorter form; `messages` holds whole
    Cloud API objects, last. Raises PayloadError for what Meta would refuse.
    """
    given = {key: value for key, value in written.items() if value is not None and value != ()}
    made: list[dict[str, Any]] = [
        {"type": kind, kind: given[kind]} for kind in (*MEDIA, "location") if kind in given
    ]
    if "template" in given:
        made.append({"type": "template", "template": _template(given["template"])})
    made += _spoken(given)
    made += given.get("messages", ())
    if not made:
        raise PayloadError(
            "text", f"is missing: a reply says something, by one of {', '.join(KEYS)}"
        )
    for unknown in unknown_places(made):
        raise PayloadError("text", f"knows no {{{unknown}}}: a reply knows {{name}} and {{phone}}")
    for fault in faults(filled(made, _SOMEBODY)):
        raise PayloadError(
            fault.field.removeprefix("messages[0].") if len(made) == 1 else fault.field,
            fault.reason,
        )
    return tuple(made)


def _spoken(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = given.get("text")
    if "buttons" in given and "list" in given:
        raise PayloadError("list", "cannot stand beside buttons: a message has one or the other")
    if "buttons" in given:
        action = {"buttons": [_button(each) for each in given["buttons"]]}
        return [_interactive("button", text, action)]
    if "list" in given:
        return [_interactive("list", text, _list(given["list"]))]
    return [] if text is None else [{"type": "text", "text": {"body": text}}]


def _interactive(kind: str, text: str | None, action: Mapping[str, Any]) -> dict[str, Any]:
    if text is None:
        raise PayloadError("text", "is missing: buttons and lists stand below a text")
    return {
        "type": "interactive",
        "interactive": {"type": kind, "body": {"text": text}, "action": action},
    }


def _button(written: Any) -> dict[str, Any]:
    return {"type": "reply", "reply": _titled(written)}


def _titled(written: Any) -> Any:
    """A word stands for itself, as title and as id."""
    return {"id": written, "title": written} if isinstance(written, str) else written


def _list(written: Mapping[str, Any]) -> dict[str, Any]:
    sections = written.get("sections")
    if sections is None:
        sections = [{"rows": written.get("rows", [])}]
    return {
        "button": written.get("button", "Choose"),
        "sections": [_section(each) for each in sections],
    }


def _section(written: Any) -> Any:
    if not isinstance(written, Mapping) or not isinstance(written.get("rows"), Sequence):
        return written
    return {**written, "rows": [_titled(row) for row in written["rows"]]}


def _template(written: Mapping[str, Any]) -> dict[str, Any]:
    """`language` may be its code alone, and `parameters` the texts of the body's."""
    made = {key: value for key, value in written.items() if key != "parameters"}
    if isinstance(made.get("language"), str):
        made["language"] = {"code": made["language"]}
    if (parameters := written.get("parameters")) is not None:
        body = [{"type": "text", "text": str(each)} for each in parameters]
        made["components"] = [*made.get("components", ()), {"type": "body", "parameters": body}]
    return made
