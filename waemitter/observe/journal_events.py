"""What happens to webhooks between the wire and the table, and to the media that they name."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import Metrics


class JournalEvents:
    """A part of `Events`."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def media_stored(self, *, channel: str, media: int, bytes: int, took: float) -> None:  # noqa: A002  as below
        self._metrics.inbound_media.labels("stored").inc()
        self._log.info(
            "MEDIA_STORED",
            channel=channel,
            inbound_media_id=media,
            bytes=bytes,
            took=round(took, 6),
            msg="A customer's file was fetched",
        )

    def media_retried(
        self, *, channel: str, media: int, attempt: int, error: str, delay: float
    ) -> None:
        self._metrics.inbound_media.labels("retry").inc()
        self._log.warning(
            "MEDIA_RETRY_SCHEDULED",
            channel=channel,
            inbound_media_id=media,
            attempt=attempt,
            error=error,
            delay=round(delay, 3),
            msg="A customer's file could not be fetched, and will be tried again",
        )

    def media_failed(self, *, channel: str, media: int, attempt: int, error: str) -> None:
        self._metrics.inbound_media.labels("failed").inc()
        self._log.error(
            "MEDIA_FAILED",
            channel=channel,
            inbound_media_id=media,
            attempt=attempt,
            error=error,
            msg="A customer's file was given up: it is a dead letter",
        )

    def media_expired(self, *, count: int) -> None:
        self._log.info("MEDIA_EXPIRED", count=count, msg="Files were removed: their time is over")

    def media_sweep_failed(self, *, error: str) -> None:
        self._log.warning(
            "MEDIA_SWEEP_FAILED", error=error, msg="Files whose time is over could not be removed"
        )

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
