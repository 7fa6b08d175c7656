"""What happens to webhooks between the wire and the table, and to the media that they name."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import Metrics


class JournalEvents:
    """A part of `Events`."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def spool_begun(self) -> None:
        """Told once for each outage."""
        self._log.warning(
            "WEBHOOK_SPOOLING", msg="Postgres is away: webhooks are kept on disk until it is back"
        )

    def spool_measured(self, *, bytes: int) -> None:  # noqa: A002  a size in bytes is called that
        self._metrics.webhook_spool_bytes.labels().set(bytes)
        self._log.debug("WEBHOOK_SPOOL_MEASURED", bytes=bytes, msg="What waits on disk")

    def spool_drained(self, *, count: int) -> None:
        self._log.info(
            "WEBHOOK_SPOOL_DRAINED", count=count, msg="Webhooks went from the disk into the table"
        )

    def spool_damaged(self, *, file: str, bytes: int, refused: int) -> None:  # noqa: A002  as above
        """`bytes` could not be read; `refused` records were read, and the database would not have them."""
        self._log.error(
            "WEBHOOK_SPOOL_DAMAGED",
            file=file,
            bytes=bytes,
            refused=refused,
            msg="A part of a spool could not be stored: the file is put aside as .damaged",
        )
