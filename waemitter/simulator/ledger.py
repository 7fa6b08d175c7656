"""What the platform saw and accepted: the witness against which senders are judged."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

import orjson

_GAPS_KEPT = 20_000
_IDLE_GAP = 1.0
_Columns = tuple[float, float, str, str, str, str, str | None, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One accepted message.

    `accepted_at` is wall time (seconds since 1970), `arrived` the monotonic moment at which the
    last byte of the request had arrived. `fingerprint` is equal for two bodies that differ only in
    `biz_opaque_callback_data` and in the spelling of the recipient.
    """

    id: int
    accepted_at: float
    arrived: float
    phone_number_id: str
    to: str
    type: str
    wamid: str
    opaque: str | None
    fingerprint: str


@dataclass(slots=True)
class WebhookTally:
    """POSTs to the webhook address: `sent` counts tries, `redelivered` those after the first."""

    sent: int = 0
    acked: int = 0
    failed: int = 0
    redelivered: int = 0
    given_up: int = 0


@dataclass(slots=True)
class _Arrivals:
    """The pace of one number's arrivals, kept up as they come so that a report costs nothing."""

    window: deque[float] = field(default_factory=deque)
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=_GAPS_KEPT))
    count: int = 0
    first: float = 0.0
    last: float = 0.0
    peak: int = 0
    over_limit: int = 0

    def add(self, now: float, limit: int) -> None:
        if not self.count:
            self.first = now
        elif now - self.last < _IDLE_GAP:
            self.gaps.append(now - self.last)
        self.count += 1
        self.last = now
        window = self.window
        while window and window[0] <= now - 1.0:
            window.popleft()
        window.append(now)
        self.peak = max(self.peak, len(window))
        if limit and len(window) > limit:
            self.over_limit += 1


class Ledger:
    """Every accepted message, and counters of the rest. All of it is O(1) for each message.

    A duplicate is a second acceptance of the same content for the same recipient from the same
    number: a sender that repeats itself on purpose is counted too.
    """

    def __init__(self) -> None:
        self.webhooks = WebhookTally()
        self._forget()

    def _forget(self) -> None:
        # Rows are plain tuples of atoms: the garbage collector stops looking at those, so a
        # million of them cost no pause that would show up as the sender's jitter.
        self._rows: list[_Columns] = []
        self._seen: set[int] = set()
        self._duplicates: list[int] = []
        self._by_type: Counter[str] = Counter()
        self._by_number: Counter[str] = Counter()
        self._refused: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._failed_later: Counter[int] = Counter()
        self._arrivals: dict[str, _Arrivals] = {}
        self._marks = Counter[str]()
        self._customers = 0

    def clear(self) -> None:
        """Forget everything, as if just started."""
        self._forget()
        self.webhooks.sent = self.webhooks.acked = self.webhooks.failed = 0
        self.webhooks.redelivered = self.webhooks.given_up = 0

    def arrived(self, phone_number_id: str, now: float, limit: int) -> None:
        """Count a send request, whatever becomes of it; `limit` a second is the number's."""
        pace = self._arrivals.get(phone_number_id)
        if pace is None:
            pace = self._arrivals[phone_number_id] = _Arrivals()
        pace.add(now, limit)

    def accepted(
        self,
        *,
        accepted_at: float,
        arrived: float,
        phone_number_id: str,
        to: str,
        type: str,  # noqa: A002 - the field's name in the Cloud API
        wamid: str,
        opaque: str | None,
        fingerprint: int,
    ) -> None:
        """Enter one accepted message; `fingerprint` as by the function of that name."""
        if fingerprint in self._seen:
            self._duplicates.append(len(self._rows))
        else:
            self._seen.add(fingerprint)
        hexadecimal = f"{fingerprint:016x}"
        self._rows.append(
            (accepted_at, arrived, phone_number_id, to, type, wamid, opaque, hexadecimal)
        )
        self._by_type[type] += 1
        self._by_number[phone_number_id] += 1

    def refused(self, code: int) -> None:
        self._refused[code] += 1

    def fault(self, name: str) -> None:
        self._faults[name] += 1

    def failed_later(self, code: int) -> None:
        self._failed_later[code] += 1

    def marked(self, what: str) -> None:
        """Count a read receipt (`read`) or a typing indicator (`typing`)."""
        self._marks[what] += 1

    def customer_wrote(self) -> None:
        self._customers += 1

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, *, after: int = 0, limit: int | None = None) -> Iterator[Row]:
        """Return accepted messages in order of acceptance, those with an id above `after`."""
        end = len(self._rows) if limit is None else min(len(self._rows), after + limit)
        for index in range(max(after, 0), end):
            yield self._row(index)

    def duplicates(self) -> Iterator[Row]:
        """Return the second and later acceptances of the same message."""
        return (self._row(index) for index in self._duplicates)

    def _row(self, index: int) -> Row:
        return Row(index + 1, *self._rows[index])

    def report(self) -> dict[str, Any]:
        """Everything at a glance; JSON-ready. Rates are a second, times are seconds."""
        paces = self._arrivals.values()
        return {
            "accepted": len(self._rows),
            "distinct": len(self._seen),
            "duplicates": len(self._duplicates),
            "by_type": dict(self._by_type),
            "by_number": dict(self._by_number),
            "refused_by_code": {str(code): count for code, count in self._refused.items()},
            "failed_by_code": {str(code): count for code, count in self._failed_later.items()},
            "faults": dict(self._faults),
            "arrivals": sum(pace.count for pace in paces),
            "arrivals_by_number": {
                number: {
                    "count": pace.count,
                    "peak_per_second": pace.peak,
                    "over_limit": pace.over_limit,
                }
                for number, pace in self._arrivals.items()
            },
            "peak_per_second": max((pace.peak for pace in paces), default=0),
            "over_limit": sum(pace.over_limit for pace in paces),
            "arrival_rate": self._rate(),
            "jitter": jitter([gap for pace in paces for gap in pace.gaps]),
            "marked": dict(self._marks),
            "customer_messages": self._customers,
            "webhooks": asdict(self.webhooks),
        }

    def _rate(self) -> float:
        paces = [pace for pace in self._arrivals.values() if pace.count > 1]
        if not paces:
            return 0.0
        span = max(pace.last for pace in paces) - min(pace.first for pace in paces)
        return round((sum(pace.count for pace in paces) - 1) / span, 2) if span > 0 else 0.0


def jitter(gaps: list[float]) -> dict[str, float]:
    """How unevenly messages came: percentiles of |gap - median gap|, in seconds.

    A sender that paces itself perfectly has zeros here; pauses of a second and more are left out
    by the ledger, since they are idleness.
    """
    if not gaps:
        return {"gaps": 0}
    gaps = sorted(gaps)
    median = gaps[len(gaps) // 2]
    deviations = sorted(abs(gap - median) for gap in gaps)
    last = len(deviations) - 1
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {
        "gaps": len(gaps),
        "median_gap": round(median, 6),
        **{name: round(deviations[int(share * last)], 6) for name, share in shares.items()},
    }


def fingerprint(phone_number_id: str, recipient: str, body: dict[str, Any]) -> int:
    """64 bits that are equal for the same content to the same recipient from the same number."""
    content = {
        key: value
        for key, value in body.items()
        if key not in {"biz_opaque_callback_data", "to", "recipient"}
    }
    digest = blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=8)
    digest.update(f"|{phone_number_id}|{recipient}".encode())
    return int.from_bytes(digest.digest())
