"""A number's messages leave by the Graph API."""

from __future__ import annotations

from typing import Protocol

from typing_extensions import override

from waemitter.outbox.carriers.carrier import Carrier, Delivery
from waemitter.outbox.message import Attempt, Echo
from waemitter.whatsapp.errors import classify
from waemitter.whatsapp.replies import NoAnswer, Reply
from waemitter.whatsapp.requests import render


class Client(Protocol):
    async def send(self, body: bytes) -> Reply: ...


class WhatsAppCarrier(Carrier):
    def __init__(self, client: Client) -> None:
        self._client = client

    @override
    def render(self, attempt: Attempt) -> bytes:
        return render(
            recipient=attempt.recipient,
            message_type=attempt.message_type,
            payload=attempt.payload,
            echo=Echo(attempt.id, attempt.token, attempt.correlation_id).text(),
        )

    @override
    async def send(self, attempt: Attempt, body: bytes) -> Delivery:
        reply = await self._client.send(body)
        return Delivery(classify(reply), not isinstance(reply, NoAnswer))
