"""A row of the outbox becomes the body of one `POST /{phone number id}/messages`.

The payload is the Cloud API's own object and passes through whole, so that what Meta adds tomorrow
can be sent today; `payloads` refuses what Meta is known to refuse. Only what the daemon must own is
set here: the product, the recipient, the type and the echo.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from waemitter.errors import PayloadError
from waemitter.whatsapp.payloads import LONGEST_ECHO, check, problems

FALLBACK: Final = "fallback_template"
"""The key of a payload that is ours: the template to send when a free-form message is not allowed."""

_READY_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_PHONE_DIGITS: Final = re.compile(r"[1-9][0-9]{6,14}")
_USER_ID: Final = re.compile(r"[A-Za-z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")
_TRUNK_ZERO: Final = re.compile(r"\(\s*0\s*\)")
# Blanks, dashes, brackets and dots as people type them, and the invisible marks for direction and
# width that come along when a number is copied from a contact list.
_PUNCTUATION: Final = re.compile(
    r"[\s()\[\]./\u00ad\u200b-\u200f\u2010-\u2015\u2212\u202a-\u202e\u2060-\u2069\ufeff-]+"
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a message goes to, in the one spelling that is compared and stored.

    A phone is `+` and 7 to 15 digits. A user id is Meta's business-scoped one: two letters for the
    country, a dot, up to 128 letters and digits; `ENT.` stands before those of a parent account.
    """

    kind: Literal["phone", "user_id"]
    value: str


def normalise_recipient(text: str) -> Recipient:
    """Read a phone number or a business-scoped user id as people write it.

    Without a `+` the digits are taken as international all the same, since Meta would put the
    country of the sending number in front of them and reach a stranger. Raises PayloadError.
    """
    if _READY_PHONE.fullmatch(text):
        return Recipient("phone", text)
    if _USER_ID.fullmatch(stripped := text.strip()):
        return Recipient("user_id", stripped)
    return Recipient("phone", "+" + _international_digits(text))


def _international_digits(text: str) -> str:
    if _TRUNK_ZERO.search(text):
        raise PayloadError("recipient", "remove the (0): no country code is followed by it")
    compact = _PUNCTUATION.sub("", text)
    digits = compact[1:] if compact.startswith("+") else compact.removeprefix("00")
    if _PHONE_DIGITS.fullmatch(digits):
        return digits
    if not (digits.isascii() and digits.isdigit()):
        raise PayloadError(
            "recipient", "is neither a phone number like +14155550123 nor a user id like US.1349…"
        )
    if digits.startswith("0"):
        raise PayloadError("recipient", "starts with 0: write it with its country code")
    raise PayloadError("recipient", f"has {len(digits)} digits: a phone number has 7 to 15")


def render(
    *,
    recipient: str,
    message_type: str,
    payload: Mapping[str, Any] | str | bytes,
    echo: str,
) -> bytes:
    """Return the request body as compact JSON in UTF-8.

    `payload` is keyed as in the Cloud API, as an object or as its JSON text: `{"text": {…}}`. It
    may also hold `context`, `recipient_type`, the caller's own `biz_opaque_callback_data`, which
    goes behind `echo` and a `|`, and `fallback_template`, which is ours and does not leave. With
    `recipient_type` `group` the recipient is a group id and is sent as it is. Raises PayloadError,
    which names the field and says what to do about it.
    """
    given = _object(payload)
    check(message_type, given)
    to, address = _address(recipient, given.get("recipient_type"))
    body = {
        "messaging_product": "whatsapp",
        **{key: value for key, value in given.items() if key != FALLBACK},
        to: address,
        "type": message_type,
        "biz_opaque_callback_data": _echo(echo, given.get("biz_opaque_callback_data")),
    }
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise PayloadError("payload", f"cannot be written as JSON: {error}") from error


def read_request(wamid: str, *, typing: bool) -> bytes:
    """Return the body that marks a message as read; with `typing` it shows "typing…", too, for 25 s or until the reply.

    https://developers.facebook.com/docs/whatsapp/cloud-api/typing-indicators
    """
    body: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": wamid,
    }
    if typing:
        body["typing_indicator"] = {"type": "text"}
    return orjson.dumps(body)


def complaints(recipient: str, message_type: str, payload: Mapping[str, Any]) -> list[PayloadError]:
    """All that is wrong with the payload; once that is in order, what is wrong with the rest."""
    found = problems(message_type, payload)
    if not found:
        try:
            render(recipient=recipient, message_type=message_type, payload=payload, echo="")
        except PayloadError as error:
            found.append(error)
    return found


def _object(payload: Mapping[str, Any] | str | bytes) -> Mapping[str, Any]:
    given: Any = payload
    if isinstance(payload, str | bytes):
        try:
            given = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise PayloadError("payload", "is no valid JSON") from error
    if not isinstance(given, Mapping):
        raise PayloadError("payload", 'must be a JSON object like {"text": {"body": "…"}}')
    return given


def _address(recipient: str, recipient_type: Any) -> tuple[str, str]:
    """Return the key that names the recipient, and its value."""
    if recipient_type == "group":
        if not recipient or recipient != recipient.strip():
            raise PayloadError("recipient", "must be the group's id, without blanks around it")
        return "to", recipient
    person = normalise_recipient(recipient)
    return ("to" if person.kind == "phone" else "recipient"), person.value


def _echo(echo: str, own: Any) -> str:
    if own is None:
        return echo
    joined = f"{echo}|{own}"
    if len(joined) > LONGEST_ECHO:
        left = LONGEST_ECHO - len(echo) - 1
        raise PayloadError(
            "payload.biz_opaque_callback_data",
            f"is too long: at most {left} characters are left for it",
        )
    return joined
