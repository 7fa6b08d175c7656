"""Blue ticks and "typing…" for the customer, while an answer is made. They pass by the outbox: they cost no send slot."""

from __future__ import annotations

from waemitter.observe.events import Events
from waemitter.whatsapp.client import GraphClient
from waemitter.whatsapp.replies import Answered
from waemitter.whatsapp.requests import read_request

OK = 200


class Typing:
    """One channel's."""

    def __init__(self, client: GraphClient, *, events: Events) -> None:
        self._client = client
        self._events = events

    async def read(self, wamid: str, *, typing: bool) -> None:
        """See Courtesy."""
        reply = await self._client.send(read_request(wamid, typing=typing))
        if not isinstance(reply, Answered) or reply.status != OK:
            status = reply.status if isinstance(reply, Answered) else None
            self._events.typing_refused(status=status)
