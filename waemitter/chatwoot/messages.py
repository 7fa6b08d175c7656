"""Messages in both languages, Chatwoot's and the Cloud API's. Pure.

What a customer or an agent writes in Chatwoot becomes Cloud API objects, so that routes, handlers and senders know one
language. A row of the outbox becomes a post: text, attachments by their link, buttons and lists as `input_select`, which
Chatwoot shows as such, and sends on as such through a WhatsApp inbox.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from waemitter.chatwoot import FROM_CUSTOMER, TRANSCRIPT
from waemitter.chatwoot.webhooks import Attachment, Message

LONGEST_TEXT: Final = 4096
LONGEST_CAPTION: Final = 1024
"""Characters; Meta's limits."""

LONGEST_LINE: Final = 500
"""Characters of a message in a transcript."""

_AUTHORS: Final = {"customer": "Customer", "bot": "Bot", "colleague": "Colleague"}
_TYPES: Final[Mapping[str, str]] = {
    "image": "image",
    "audio": "audio",
    "video": "video",
    "file": "document",
    "ig_reel": "video",
}
_CAPTIONED: Final = frozenset({"image", "video", "document"})
_MEDIA: Final = ("image", "video", "audio", "document", "sticker")
_BOLD: Final = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_STRUCK: Final = re.compile(r"~~(?=\S)(.+?)(?<=\S)~~")
_BREAK: Final = re.compile(r"\\\n")


@dataclass(frozen=True, slots=True)
class Media:
    """A file of a message: by `link`, or by the `id` that Meta gave it."""

    kind: str
    link: str | None
    id: str | None
    filename: str | None
    mime_type: str | None


@dataclass(frozen=True, slots=True)
class Post:
    """What is posted into a conversation; `incoming`: as the customer's own words; `private`: seen by agents alone."""

    content: str
    incoming: bool = False
    content_type: str | None = None
    content_attributes: Mapping[str, Any] = field(default_factory=dict)
    template_params: Mapping[str, Any] | None = None
    media: Media | None = None
    private: bool = False


def heard(message: Message, *, key: str, sender: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a customer wrote, as Meta would have told it: an object for each attachment, or one of text.

    `key`: the id of the first; `sender`: `from`, `from_user_id`.
    """
    stamp = str(int(message.created_at.timestamp())) if message.created_at else None
    found = []
    for place, part in enumerate(_parts(message, formatted=False)):
        head = {"id": key if place == 0 else f"{key}.{place + 1}", **sender}
        found.append({**head, **({"timestamp": stamp} if stamp else {}), **part})
    return found


def said(message: Message) -> list[dict[str, Any]]:
    """What an agent wrote, as Cloud API objects that a customer can be sent."""
    return list(_parts(message, formatted=True))


def _parts(message: Message, *, formatted: bool) -> Iterator[dict[str, Any]]:
    words = message.content or ""
    if formatted:
        words = _BREAK.sub("\n", _STRUCK.sub(r"~\1~", _BOLD.sub(r"*\1*", words)))
    words = words.strip()
    files = [part for each in message.attachments if (part := _file(each))]
    first = files[0] if files else None
    caption = (
        first is not None and first["type"] in _CAPTIONED and 0 < len(words) <= LONGEST_CAPTION
    )
    if first is not None and caption:
        first[first["type"]]["caption"] = words
    elif words:
        for start in range(0, len(words), LONGEST_TEXT):
            yield {"type": "text", "text": {"body": words[start : start + LONGEST_TEXT]}}
    yield from files


def _file(attachment: Attachment) -> dict[str, Any] | None:
    if attachment.file_type == "location" and attachment.coordinates_lat is not None:
        place = {
            "latitude": attachment.coordinates_lat,
            "longitude": attachment.coordinates_long or 0.0,
        }
        named = {"name": attachment.fallback_title} if attachment.fallback_title else {}
        return {"type": "location", "location": {**place, **named}}
    if not attachment.data_url:
        return None
    kind = _TYPES.get(attachment.file_type)
    if kind is None:
        return {"type": "text", "text": {"body": attachment.data_url[:LONGEST_TEXT]}}
    found: dict[str, Any] = {"link": attachment.data_url}
    if kind == "document" and (name := _filename(attachment.data_url)):
        found["filename"] = name
    return {"type": kind, kind: found}


def _filename(url: str) -> str | None:
    return unquote(urlsplit(url).path.rpartition("/")[2])[:240] or None


def post_of(message_type: str, payload: Mapping[str, Any]) -> Post:
    """Turn a row's payload into a post. What Chatwoot has no shape for is told in words."""
    incoming = FROM_CUSTOMER in payload
    part = payload.get(message_type)
    part = part if isinstance(part, Mapping) else {}
    if message_type == "text":
        return Post(_text(part.get("body")), incoming)
    if message_type in _MEDIA:
        return _with_media(message_type, part, incoming=incoming)
    if message_type == "template":
        return _template(part)
    if message_type == "interactive" and not incoming:
        return _interactive(part)
    if message_type == TRANSCRIPT:
        return Post(_transcript(part), private=True)
    return Post(_in_words(message_type, part), incoming)


def _with_media(kind: str, part: Mapping[str, Any], *, incoming: bool) -> Post:
    media = Media(
        kind,
        *(_word(part.get(key)) for key in ("link", "id", "filename", "mime_type")),
    )
    return Post(_text(part.get("caption")), incoming, media=media)


def _template(part: Mapping[str, Any]) -> Post:
    """Chatwoot sends a template by its name and the values of its body."""
    language = part.get("language")
    code = language.get("code") if isinstance(language, Mapping) else None
    values: dict[str, str] = {}
    for component in _objects(part.get("components")):
        if str(component.get("type", "")).lower() == "body":
            for place, each in enumerate(_objects(component.get("parameters")), 1):
                name = _word(each.get("parameter_name")) or str(place)
                values[name] = _text(each.get("text"))
    name = _text(part.get("name"))
    params = {"name": name, "language": _text(code), "processed_params": values}
    return Post(name, template_params=params)


def _interactive(part: Mapping[str, Any]) -> Post:
    body = part.get("body")
    words = _text(body.get("text")) if isinstance(body, Mapping) else ""
    action = part.get("action")
    choices = list(_choices(action)) if isinstance(action, Mapping) else []
    if not choices:
        return Post(words or _in_words("interactive", part))
    items = [{"title": title, "value": value} for value, title in choices]
    return Post(words, content_type="input_select", content_attributes={"items": items})


def _choices(action: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The buttons, or the rows of the list: id and title of each."""
    for button in _objects(action.get("buttons")):
        reply = button.get("reply")
        if isinstance(reply, Mapping):
            yield _text(reply.get("id")), _text(reply.get("title"))
    for section in _objects(action.get("sections")):
        for row in _objects(section.get("rows")):
            yield _text(row.get("id")), _text(row.get("title"))


def _in_words(kind: str, part: Mapping[str, Any]) -> str:
    match kind:
        case "location":
            place = ", ".join(_text(part.get(key)) for key in ("latitude", "longitude"))
            named = [_text(part.get(key)) for key in ("name", "address")]
            return "\n".join(each for each in (*named, place) if each)
        case "button":
            return _text(part.get("text"))
        case "interactive":
            replies = [part.get(key) for key in ("button_reply", "list_reply")]
            titles = [_text(each.get("title")) for each in replies if isinstance(each, Mapping)]
            return titles[0] if titles else "[interactive]"
        case "reaction":
            return f"[reaction {_text(part.get('emoji'))}]"
        case _:
            return f"[{kind}]"


def _transcript(part: Mapping[str, Any]) -> str:
    """A line for each message, the oldest first."""
    lines = [
        f"{_minute(each.get('at'))}  {_AUTHORS.get(_text(each.get('from')), 'We')}: {_briefly(message)}"
        for each in _objects(part.get("messages"))
        if isinstance(message := each.get("message"), Mapping)
    ]
    return "\n".join(["What was said before:", *lines]) if lines else ""


def _briefly(message: Mapping[str, Any]) -> str:
    kind = _text(message.get("type"))
    post = post_of(kind, message)
    words = " ".join(post.content.split())
    if post.media is not None or post.template_params is not None:
        words = f"[{kind}] {words}".rstrip()
    return words if len(words) <= LONGEST_LINE else f"{words[: LONGEST_LINE - 1]}…"


def _minute(at: Any) -> str:
    """Of a time as Postgres writes it into JSON."""
    try:
        moment = datetime.fromisoformat(_text(at))
    except ValueError:
        return "?"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
