"""What becomes of an accepted message: sent, delivered, read or failed, and maybe an answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from zlib import crc32

from waemitter.simulator.courier import Courier
from waemitter.simulator.errors import GraphError
from waemitter.simulator.ids import Ids
from waemitter.simulator.options import Options, Seconds
from waemitter.simulator.recipients import Recipient
from waemitter.simulator.webhooks import Update

_NAMES: Final = (
    "Ada 🌱",
    "Grace",
    "Élodie Brûlé",
    "José ⚽",
    "Yael בר",
    "Mei 陳",
    "Noor ✨",
    "Sam",
)
_ANSWERS: Final = (
    "Thanks! 🙏",
    "Ok 👍",
    "When will it arrive?",
    "Grüße aus Köln 🇩🇪",
    "תודה!",
    "Can I pay 50% now & 50% later?",
    "Menu",
    "1",
)
_PARTICIPANTS: Final = ("15550101301", "15550101302", "15550101303")
_PRICED: Final = frozenset({"sent", "delivered"})
_Moment = tuple[float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An accepted message as far as its later life needs it; `accepted_at` is wall time."""

    phone_number_id: str
    recipient: Recipient
    wamid: str
    opaque: str | None
    accepted_at: float
    arrived: float
    category: str
    free: bool
    """True when it is not charged, being inside the customer service window."""

    def pricing(self) -> dict[str, Any]:
        """Return the pricing object, per message as since July 2025."""
        kind = "free_customer_service" if self.free else "regular"
        return {
            "billable": not self.free,
            "pricing_model": "PMP",
            "type": kind,
            "category": self.category,
        }


class Lifecycle:
    """Schedules the statuses of accepted messages and what customers write."""

    def __init__(self, *, options: Options, courier: Courier, ids: Ids, random: Random) -> None:
        self.options = options
        self._courier = courier
        self._ids = ids
        self._random = random

    def fail(self, message: Message, error: GraphError, *, now: float) -> None:
        """Report as failed what was answered with 200; `now` is monotonic."""
        due = now + self._draw(self.options.sent_delay)
        self._schedule(message, due, due, "failed", error)

    def deliver(self, message: Message, *, now: float) -> None:
        """All goes well: its statuses come from `now` on."""
        if not (self._tells or self.options.reply_probability):
            return
        plan = list(self._plan(now))
        dues = [due for due, _ in plan]
        if len(dues) > 1 and self._random.random() < self.options.reorder_webhooks:
            self._random.shuffle(dues)
            if dues == sorted(dues):
                dues.reverse()
        for due, (happened, word) in zip(dues, plan, strict=True):
            self._schedule(message, due, happened, word)
        if message.recipient.kind == "group":
            return
        if self._random.random() < self.options.reply_probability:
            reached = plan[min(1, len(plan) - 1)][0]
            text = self._random.choice(_ANSWERS)
            self.write(
                message.phone_number_id,
                message.recipient.id,
                {"type": "text", "text": {"body": text}},
                due=reached + self._draw(self.options.reply_delay),
                wall=message.accepted_at - message.arrived,
            )

    def write(
        self,
        phone_number_id: str,
        sender: str,
        content: dict[str, Any],
        *,
        due: float,
        wall: float,
        name: str | None = None,
    ) -> str:
        """Let a customer write to a number; returns the new message's wamid.

        `due` is monotonic; `wall` is the difference that turns it into wall time.
        """
        wamid = self._ids.inbound(sender)
        by_number = sender.isdigit()
        profile = {"name": name or _NAMES[crc32(sender.encode()) % len(_NAMES)]}
        message = {
            "from" if by_number else "from_user_id": sender,
            "id": wamid,
            "timestamp": str(int(due + wall)),
            **content,
        }
        contact = {"profile": profile, "wa_id" if by_number else "user_id": sender}
        update = Update(phone_number_id, message=message, contact=contact, sender=sender)
        self._courier.schedule(due, update)
        return wamid

    def _plan(self, now: float) -> Iterator[_Moment]:
        options = self.options
        at = now + self._draw(options.sent_delay)
        yield at, "sent"
        read = self._random.random() < options.read_probability
        skipped = read and self._random.random() < options.skip_delivered
        at += self._draw(options.delivered_delay)
        if not skipped:
            yield at, "delivered"
        if read:
            yield at + self._draw(options.read_delay), "read"

    @property
    def _tells(self) -> bool:
        return self.options.statuses and self.options.webhook_url is not None

    def _draw(self, seconds: Seconds) -> float:
        return self._random.uniform(*seconds)

    def _schedule(
        self,
        message: Message,
        due: float,
        happened: float,
        word: str,
        error: GraphError | None = None,
    ) -> None:
        if not self._tells:
            return
        wall = message.accepted_at + happened - message.arrived
        status = _status(message, word, wall, error)
        group = message.recipient.kind == "group"
        for participant in _PARTICIPANTS if group and word in {"delivered", "read"} else (None,):
            told = status
            if participant is not None:
                told = {**status, "recipient_participant_id": participant}
            contact = _contact(message) if error is None else None
            update = Update(message.phone_number_id, status=told, contact=contact)
            self._courier.schedule(due, update)


def _status(message: Message, word: str, wall: float, error: GraphError | None) -> dict[str, Any]:
    status: dict[str, Any] = {"id": message.wamid, "status": word, "timestamp": str(int(wall))}
    recipient = message.recipient
    key = "recipient_user_id" if recipient.kind == "user_id" else "recipient_id"
    status[key] = recipient.id
    if recipient.kind == "group":
        status["recipient_type"] = "group"
    if message.opaque is not None:
        status["biz_opaque_callback_data"] = message.opaque
    if word in _PRICED:
        status["pricing"] = message.pricing()
    if error is not None:
        status["errors"] = [error.in_status()]
    return status


def _contact(message: Message) -> dict[str, Any] | None:
    # Meta sends contacts along with a status only for users known by their id, and not with failed.
    if message.recipient.kind != "user_id":
        return None
    name = _NAMES[crc32(message.recipient.id.encode()) % len(_NAMES)]
    return {"profile": {"name": name}, "user_id": message.recipient.id}
