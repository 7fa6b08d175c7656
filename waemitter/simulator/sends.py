"""One POST to /messages, from its bytes to the answer: what Meta would do, without the wire."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic, time
from typing import Any

import orjson

from waemitter.simulator.errors import (
    BY_WEBHOOK,
    CATALOGUE,
    THROTTLES,
    GraphError,
    code_of_recipient,
)
from waemitter.simulator.faults import error_code_at
from waemitter.simulator.ids import display_phone_number
from waemitter.simulator.ledger import fingerprint
from waemitter.simulator.lifecycle import Message
from waemitter.simulator.recipients import Recipient
from waemitter.simulator.shapes import Refusal, bad_parameter, bad_value
from waemitter.simulator.templates import Template
from waemitter.simulator.validation import check_message, check_receipt
from waemitter.simulator.world import World

_MEDIA_TYPES = frozenset({"image", "video", "audio", "document", "sticker"})
_WINDOW_FREE = frozenset({"service", "utility"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: an HTTP status and a JSON body; `error` when it is a refusal."""

    status: int
    body: bytes
    error: GraphError | None = None


class Sends:
    """Takes send requests for a world; raises nothing, every refusal is an `Answer`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def receive(self, phone_number_id: str, raw: bytes, *, marketing: bool = False) -> Answer:
        """Judge one request body, now, and let an accepted message begin its life."""
        try:
            body = _parsed(raw)
            if isinstance(body, dict) and "status" in body:
                return self._receipt(body)
            accepted = self._send(phone_number_id, body, marketing=marketing)
        except Refusal as refusal:
            return self.refuse(refusal.error)
        return Answer(200, orjson.dumps(accepted))

    def refuse(self, error: GraphError) -> Answer:
        """Return the answer that carries `error`, entered in the ledger."""
        world = self._world
        world.ledger.refused(error.code)
        status = error.status
        if error.code in THROTTLES:
            status = world.options.throttle_http_status
        return Answer(status, orjson.dumps(error.reply(world.ids.trace())), error)

    def _receipt(self, body: dict[str, Any]) -> Answer:
        typing = check_receipt(body)
        self._world.ledger.marked("read")
        if typing:
            self._world.ledger.marked("typing")
        return Answer(200, b'{"success":true}')

    def _send(self, phone_number_id: str, body: Any, *, marketing: bool) -> dict[str, Any]:
        world, options = self._world, self._world.options
        now = monotonic()
        world.ledger.arrived(phone_number_id, now, options.messages_per_second)
        if world.throughput is not None and not world.throughput.admit(phone_number_id, now):
            raise Refusal(CATALOGUE[130429])
        recipient, kind = check_message(body, marketing=marketing)
        if recipient.id == display_phone_number(phone_number_id):
            raise Refusal(CATALOGUE[131021])
        if options.require_media and kind in _MEDIA_TYPES:
            self._check_media(kind, body[kind])
        template = world.templates.resolve(body["template"]) if kind == "template" else None
        _check_category(template, recipient, marketing=marketing)
        failure = self._failure(recipient)
        in_window = world.in_window(phone_number_id, recipient.id, now)
        if options.enforce_window and template is None and not in_window:
            failure = failure or CATALOGUE[131047]
        if world.pairs is not None and not world.pairs.admit((phone_number_id, recipient.id), now):
            raise Refusal(CATALOGUE[131056])
        category = template.category if template else "service"
        message = Message(
            phone_number_id=phone_number_id,
            recipient=recipient,
            wamid=world.ids.outbound(recipient.id),
            opaque=body.get("biz_opaque_callback_data"),
            accepted_at=time(),
            arrived=now,
            category=category,
            # Without enforcement every free-form message counts as an answer inside the window.
            free=template is None or (in_window and category in _WINDOW_FREE),
        )
        self._enter(message, kind, body)
        return self._begin(message, template, failure)

    def _failure(self, recipient: Recipient) -> GraphError | None:
        """Return the error this message is fated to: raised when Meta would say so at once."""
        world = self._world
        code: int | None = None
        if world.options.error_recipients and recipient.kind == "phone":
            code = code_of_recipient(recipient.id)
        if code is None and world.options.error_mix:
            code = error_code_at(world.random.random(), world.options.error_mix)
        if code is None:
            return None
        error = CATALOGUE.get(code) or GraphError(400, code, "Unknown error")
        if code not in BY_WEBHOOK:
            raise Refusal(error)
        return error

    def _check_media(self, kind: str, media: dict[str, Any]) -> None:
        media_id = media.get("id")
        if media_id is not None and self._world.media.get(media_id) is None:
            what = "is not a valid whatsapp business account media attachment ID"
            raise bad_parameter(f"Param {kind}['id'] {what}")

    def _enter(self, message: Message, kind: str, body: dict[str, Any]) -> None:
        self._world.seen(message.phone_number_id)
        self._world.ledger.accepted(
            accepted_at=message.accepted_at,
            arrived=message.arrived,
            phone_number_id=message.phone_number_id,
            to=message.recipient.id,
            type=kind,
            wamid=message.wamid,
            opaque=message.opaque,
            fingerprint=fingerprint(message.phone_number_id, message.recipient.id, body),
        )

    def _begin(
        self, message: Message, template: Template | None, failure: GraphError | None
    ) -> dict[str, Any]:
        world = self._world
        sent: dict[str, Any] = {"id": message.wamid}
        if message.recipient.kind == "group":
            sent["group_id"] = message.recipient.id
        if template is not None:
            held = template.status == "held"
            sent["message_status"] = "held_for_quality_assessment" if held else "accepted"
        if failure is not None:
            world.ledger.failed_later(failure.code)
            world.lifecycle.fail(message, failure, now=message.arrived)
        elif template is not None and template.status == "held":
            world.held.setdefault((template.name, template.language), []).append(message)
        else:
            world.lifecycle.deliver(message, now=message.arrived)
        return {
            "messaging_product": "whatsapp",
            "contacts": [message.recipient.contact()],
            "messages": [sent],
        }


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise bad_parameter("The request body is not valid JSON.") from None


def _check_category(template: Template | None, recipient: Recipient, *, marketing: bool) -> None:
    if template is None:
        return
    if template.category == "authentication" and recipient.kind == "user_id":
        raise Refusal(CATALOGUE[131062])
    if marketing and template.category == "authentication":
        raise bad_value("Only marketing templates may be sent through this endpoint.")
