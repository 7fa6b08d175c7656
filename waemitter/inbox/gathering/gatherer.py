"""What customers write goes into the windows of their conversations, in the transaction that keeps it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from waemitter.inbox.fields.offering import Offer
from waemitter.inbox.gathering.store import Gathered, GatheringStore, Placed
from waemitter.inbox.store import Connection
from waemitter.inbox.windows import OFF, Window, Windows, complete, gathers
from waemitter.observe.events import Events


class Said(NamedTuple):
    """A message that was kept, just now and by the same transaction; `message` is Meta's object."""

    message_id: int
    channel: str
    contact_id: int
    message: Mapping[str, Any]


class Gatherer:
    """Also for other sources than WhatsApp's webhooks: whoever keeps a message hands it on here."""

    def __init__(
        self,
        windows: Windows,
        *,
        events: Events,
        rate: int,
        session_ttl: float,
        enhanced: bool | None = None,
        command: Callable[[Mapping[str, Any]], bool] = lambda _: False,
        fields: frozenset[str] = frozenset(),
    ) -> None:
        """`rate`: messages of one conversation that are taken in a minute; `session_ttl` in seconds.

        `enhanced`: what the flag enhanced_processing is, None = as the database says. `command(message)`: true for words that
        wait for nothing, as STOP does. `fields`: the webhook fields that some route asks for.
        """
        self._store = GatheringStore()
        self._windows = windows
        self._events = events
        self._rate = rate
        self._ttl = datetime.timedelta(seconds=session_ttl)
        self._enhanced = enhanced
        self._command = command
        self.fields: Final = fields

    async def gather(
        self, connection: Connection, said: Sequence[Said]
    ) -> Callable[[], None] | None:
        """Returns what to tell once it is committed."""
        turns = [each for each in said if gathers(each.message)]
        if not turns:
            return None
        contacts = list({each.contact_id for each in turns})
        services = await self._store.services(connection, contacts, ttl=self._ttl)
        placed = [
            self._placed(each, services.get((each.channel, each.contact_id))) for each in turns
        ]
        gathered = await self._store.gather(
            connection, placed, rate=self._rate, enhanced=self._enhanced
        )
        return lambda: self._tell(gathered)

    async def offer(
        self, connection: Connection, offers: Sequence[Offer]
    ) -> Callable[[], None] | None:
        """Each becomes a turn of its own, when a route asks for its field. Returns what to tell once it is committed."""
        asked = [each for each in offers if each.field in self.fields]
        if not asked:
            return None
        offered = await self._store.offer(connection, asked)
        return lambda: self._tell(offered)

    def _placed(self, said: Said, active_service: str | None) -> Placed:
        if complete(said.message) or self._command(said.message):
            window = OFF
        else:
            window = self._windows.window(
                channel=said.channel,
                message=said.message,
                active_service=active_service,
            )
        return _placed(said.message_id, window)

    def _tell(self, gathered: Sequence[Gathered]) -> None:
        for each in gathered:
            if each.result == "opened" and each.buffer_id is not None:
                self._events.buffer_opened(
                    buffer_id=each.buffer_id, conversation_id=each.conversation_id
                )
        results = Counter(each.result for each in gathered)
        if limited := results["rate_limited"]:
            self._events.messages_rate_limited(count=limited)


def _placed(message_id: int, window: Window) -> Placed:
    return Placed(
        message_id,
        window.duration,
        window.max_age,
        window.max_size,
        window.mode == "sliding",
        window.mode == "off",
    )
