"""How long the access tokens are good: Meta is asked once a day for each number, by one of the daemons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from waemitter.observe.events import Events
from waemitter.outbox.channels.looking import look_every
from waemitter.runtime.supervise import Stop

LOOK_EVERY: Final = 3600.0  # seconds; each number's turn comes once a day
DAY: Final = 86_400.0
SOON: Final = 14.0  # days


class Client(Protocol):
    async def token_expiry(self) -> float | None: ...


class Store(Protocol):
    async def due_tokens(self, channels: Sequence[str]) -> Sequence[str]: ...

    async def keep_expiry(self, channel: str, expires_at: float | None) -> None: ...


class Tokens:
    def __init__(
        self,
        store: Store,
        clients: Mapping[str, Client],
        *,
        events: Events,
        wall: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        """`clients` by channel; `wall`: seconds since 1970; `jitter()` gives a factor near 1."""
        self._store = store
        self._clients = clients
        self._events = events
        self._wall = wall
        self._jitter = jitter

    async def run(self, stop: Stop) -> None:
        await look_every(LOOK_EVERY, self.look, stop, events=self._events, jitter=self._jitter)

    async def look(self) -> None:
        """Ask for every number whose turn it is. Raises DatabaseUnreachable."""
        for channel in await self._store.due_tokens(list(self._clients)):
            expires = await self._clients[channel].token_expiry()
            await self._store.keep_expiry(channel, expires)
            if expires is not None and (days := (expires - self._wall()) / DAY) <= SOON:
                self._events.token_expires(channel=channel, days=days)
