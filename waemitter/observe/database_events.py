"""What others do to the database that we live in."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import Metrics


class DatabaseEvents:
    """A part of `Events`."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def snapshot_sampled(self, *, seconds: float) -> None:
        """The oldest one that any transaction holds has been seen for so long."""
        self._metrics.oldest_snapshot.labels().set(seconds)
        self._log.debug(
            "SNAPSHOT_SAMPLED",
            seconds=round(seconds, 1),
            msg="How long the oldest snapshot of any transaction has been seen",
        )

    def snapshot_held(self, *, holder: str, seconds: float, transactions: int) -> None:
        """`holder`: what it is, and its process; `transactions`: begun since, by everybody."""
        self._log.warning(
            "SNAPSHOT_HELD",
            holder=holder,
            seconds=round(seconds, 1),
            transactions=transactions,
            msg="A transaction stays open: nothing that ended since can be vacuumed, and claims grow slower",
        )

    def snapshot_released(self, *, holder: str, seconds: float) -> None:
        self._log.info(
            "SNAPSHOT_RELEASED",
            holder=holder,
            seconds=round(seconds, 1),
            msg="A transaction that stayed open has ended: vacuum can clean up",
        )
