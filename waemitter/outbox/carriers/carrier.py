"""What a sender needs of whatever its channel's messages leave by."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from waemitter.outbox.message import Attempt
from waemitter.whatsapp.errors import Accepted, Refused


class Delivery(NamedTuple):
    """`answer`: what became of an attempt; `answered`: a whole response came."""

    answer: Accepted | Refused
    answered: bool


class Carrier(Protocol):
    def render(self, attempt: Attempt) -> bytes:
        """Make the body of a request. Raises PayloadError."""
        ...

    async def send(self, attempt: Attempt, body: bytes) -> Delivery:
        """Send what was rendered. Trouble on the network is a delivery too; raises DatabaseUnreachable: nothing has left."""
        ...
