"""Webhooks as bytes on the wire: the envelope, its spelling and its signature. Pure."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from waemitter.simulator.ids import display_phone_number
from waemitter.simulator.options import Escapes

_SYMBOLS = str.maketrans({"<": "\\u003C", "%": "\\u0025", "@": "\\u0040"})


@dataclass(frozen=True, slots=True)
class Update:
    """One thing to tell: a status, or a message that a customer wrote."""

    phone_number_id: str
    status: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    contact: dict[str, Any] | None = None
    sender: str = ""
    """The customer's id when this is a message."""


def envelope(updates: Iterable[Update], waba_id: str) -> dict[str, Any]:
    """One webhook body for all `updates`: a change for each number's statuses and messages."""
    statuses: dict[str, dict[str, Any]] = {}
    messages: dict[str, dict[str, Any]] = {}
    for update in updates:
        number = update.phone_number_id
        of_kind = statuses if update.status is not None else messages
        value = of_kind.get(number)
        if value is None:
            value = of_kind[number] = _value(number)
        if update.contact is not None and update.contact not in value.setdefault("contacts", []):
            value["contacts"].append(update.contact)
        if update.status is not None:
            value.setdefault("statuses", []).append(update.status)
        if update.message is not None:
            value.setdefault("messages", []).append(update.message)
    changes = [
        {"value": value, "field": "messages"} for value in (*statuses.values(), *messages.values())
    ]
    return {
        "object": "whatsapp_business_account",
        "entry": [{"id": waba_id, "changes": changes}],
    }


def _value(phone_number_id: str) -> dict[str, Any]:
    return {
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": display_phone_number(phone_number_id),
            "phone_number_id": phone_number_id,
        },
    }


def encode(document: object, escapes: Escapes = "unicode") -> bytes:
    r"""Compact JSON in Meta's spelling: `\u00fc` in lower case for all that is not ASCII.

    `slash` writes `\/` too, as older notes report, and `symbols` escapes `<`, `%` and `@` as well;
    `none` is plain UTF-8. A receiver that checks the raw bytes does not care.
    """
    plain = escapes == "none"
    text = json.dumps(document, ensure_ascii=not plain, separators=(",", ":"))
    # Outside of strings JSON has none of these characters, so replacing them is safe.
    if escapes in {"slash", "symbols"}:
        text = text.replace("/", "\\/")
    if escapes == "symbols":
        text = text.translate(_SYMBOLS)
    return text.encode()


def signature(body: bytes, app_secret: str) -> str:
    """Return the value of `X-Hub-Signature-256`."""
    return "sha256=" + hmac.new(app_secret.encode(), body, "sha256").hexdigest()
