"""Time and room for sends: the server's slots on our own clock, and how many requests may be in flight.

The bucket itself is a row (channel_buckets), so that any number of daemons share it: a claim hands out send slots by the generic
cell rate algorithm, 0.97 of the limit apart and with a burst of one. That keeps every sliding second within the limit as long
as messages leave less than 30 ms after their slots: at most floor((1 + jitter) * rate) + 1 of them.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LATE: Final = 0.010  # seconds after its slot when a message must not leave any more
DRIFT: Final = 0.0005  # seconds in a second: how fast two clocks may part


@dataclass(slots=True)
class ServerClock:
    """The server's clock, read from ours: each answer of the server shows it, late by the time the answer took.

    So the least delay seen is the best; it is forgotten slowly, since clocks drift.
    """

    _offset: float | None = None
    _seen_at: float = 0.0

    def observe(self, server: float, *, now: float) -> None:
        """`server`: its time in an answer that came at `now`, ours. Both in seconds."""
        offset = now - server
        if self._offset is not None:
            offset = min(offset, self._offset + DRIFT * (now - self._seen_at))
        self._offset, self._seen_at = offset, now

    def ours(self, server: float) -> float:
        """When it is `server` o'clock there, in our seconds. Only after a first observation."""
        assert self._offset is not None  # noqa: S101 a claim observes before it has slots to ask for
        return server + self._offset


def missed(slot: float, *, now: float) -> bool:
    """Whether a slot has passed by so far that another message's second would be too full."""
    return now - slot > LATE


SMALL: Final = 2  # messages a second, which the spare 3 % of Meta's smallest limit have room for
GROWN: Final = 1.25
STANDS: Final = 20.0  # seconds until a peak that is not higher is told again


@dataclass(slots=True)
class InboundMeter:
    """Messages that came in, second by second: Meta counts them against the number's limit.

    It tells of a peak once, and again when it has grown or some time has passed: each is a write.
    """

    _second: int = 0
    _counts: Counter[str] = field(default_factory=Counter)
    _told: dict[str, tuple[int, float]] = field(default_factory=dict)

    def received(self, counts: Mapping[str, int], *, now: float) -> list[tuple[str, int]]:
        """`counts` by channel, at `now` (seconds). Returns the channels with news, and their messages a second."""
        if int(now) != self._second:
            self._second = int(now)
            self._counts.clear()
        self._counts.update(counts)
        news = []
        for channel in counts:
            rate = self._counts[channel]
            told, at = self._told.get(channel, (0, now))
            if rate > SMALL and (rate > GROWN * told or now - at > STANDS):
                self._told[channel] = (rate, now)
                news.append((channel, rate))
        return news


INTERVAL: Final = 0.25  # seconds of one measurement
REMEMBERED: Final = 20  # measurements: the least latency of the last five seconds
IDLE_ROOM: Final = 32


@dataclass(slots=True)
class FlightWindow:
    """How many requests in flight keep the wire busy, and no more: twice rate x least latency (Little's law).

    More would only wait in queues, ours or the peer's, and each connection costs. `most` is the hard limit.
    """

    most: int
    size: int = IDLE_ROOM
    rate: float = 0.0  # answers a second, the best of the last second
    _since: float = 0.0
    _answers: int = 0
    _least: float = float("inf")
    _past: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    def answered(self, latency: float, *, now: float) -> None:
        """A request took `latency` seconds, until `now`."""
        self._answers += 1
        self._least = min(self._least, latency)
        elapsed = now - self._since
        if elapsed < INTERVAL:
            return
        self._past.append((self._answers / max(min(elapsed, 4 * INTERVAL), 1e-9), self._least))
        self._since, self._answers, self._least = now, 0, float("inf")
        self.rate = max(rate for rate, _ in list(self._past)[-4:])
        least = min(latency for _, latency in self._past)
        self.size = min(self.most, IDLE_ROOM + int(2 * self.rate * least))
