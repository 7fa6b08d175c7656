"""Whether a pause that somebody had to repair is over: Meta is asked for the number's health, which costs no message.

Any number of daemons may ask; the channel's row says when the next one may, so that one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from waemitter.observe.events import Events
from waemitter.outbox.channels.looking import look_every
from waemitter.runtime.supervise import Stop
from waemitter.whatsapp.errors import Refused
from waemitter.whatsapp.health import Health

LOOK_EVERY: Final = 60.0  # seconds


class Client(Protocol):
    async def health_status(self) -> Health | Refused: ...


class Store(Protocol):
    async def due_probes(self, channels: Sequence[str]) -> Sequence[str]: ...

    async def resume(self, *, channel: str, reasons: str) -> Sequence[str]: ...


class Probe:
    def __init__(
        self,
        store: Store,
        clients: Mapping[str, Client],
        *,
        events: Events,
        jitter: Callable[[], float],
    ) -> None:
        """`clients` by channel; `jitter()` gives a factor near 1."""
        self._store = store
        self._clients = clients
        self._events = events
        self._jitter = jitter

    async def run(self, stop: Stop) -> None:
        await look_every(LOOK_EVERY, self.look, stop, events=self._events, jitter=self._jitter)

    async def look(self) -> None:
        """Probe every channel whose turn it is. Raises DatabaseUnreachable."""
        for channel in await self._store.due_probes(list(self._clients)):
            found = await self._clients[channel].health_status()
            sends = isinstance(found, Health) and found.sends
            self._events.channel_probed(channel=channel, sends=sends, detail=_detail(found))
            if sends and await self._store.resume(channel=channel, reasons="PAUSE%"):
                self._events.channel_resumed(channel=channel)


def _detail(found: Health | Refused) -> str:
    if isinstance(found, Refused):
        return found.message
    return "; ".join((found.can_send_message, *found.problems))
