"""What runs on the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import JOBS, Metrics, closed


class JobEvents:
    """A part of `Events`."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def jobs_known(self, *, jobs: Sequence[str], succeeded: Mapping[str, float]) -> None:
        """`succeeded`: when each last did, in seconds since 1970; a job that never did has no time."""
        for job, at in succeeded.items():
            self._metrics.job_last_success.labels(closed(job, JOBS)).set(at)
        self._log.debug("JOBS_KNOWN", jobs=list(jobs), msg="These jobs run when they are due")

    def job_started(self, *, job: str, run_id: int, reason: str) -> None:
        self._log.debug("JOB_STARTED", job=job, run_id=run_id, reason=reason, msg="A job runs")

    def job_succeeded(self, *, job: str, run_id: int, took: float, at: float) -> None:
        """`at`: seconds since 1970."""
        self._metrics.job_runs.labels(closed(job, JOBS), "succeeded").inc()
        self._metrics.job_last_success.labels(closed(job, JOBS)).set(at)
        self._log.debug(
            "JOB_SUCCEEDED", job=job, run_id=run_id, took=round(took, 6), msg="A job is done"
        )

    def job_failed(self, *, job: str, run_id: int, error: str) -> None:
        """`error`: the exception's class alone; its text, which may quote a row, is in the run's."""
        self._metrics.job_runs.labels(closed(job, JOBS), "failed").inc()
        self._log.error(
            "JOB_FAILED",
            job=job,
            run_id=run_id,
            error=error,
            msg="A job failed; waemitter.job_runs says why, and it runs again when it is due",
        )

    def job_cut_short(self, *, job: str, run_id: int) -> None:
        self._metrics.job_runs.labels(closed(job, JOBS), "cut_short").inc()
        self._log.info(
            "JOB_CUT_SHORT", job=job, run_id=run_id, msg="A job was let go; another daemon runs it"
        )

    def job_schedule_invalid(self, *, job: str, reason: str) -> None:
        self._log.error(
            "JOB_SCHEDULE_INVALID",
            job=job,
            reason=reason,
            msg="A job does not run by itself: correct its schedule in waemitter.jobs",
        )

    def dlq_started(self) -> None:
        self._log.debug("DLQ_PROCESSOR_STARTED", msg="Dead letters that are due are tried again")

    def dlq_completed(
        self, *, processed: int, successful: int, failed: int, abandoned: int, took: float
    ) -> None:
        log = self._log.info if processed else self._log.debug
        log(
            "DLQ_PROCESSOR_COMPLETED",
            processed=processed,
            successful=successful,
            failed=failed,
            abandoned=abandoned,
            took=round(took, 6),
            msg="Dead letters were tried again",
        )

    def dlq_message_processed(
        self,
        *,
        letter_id: int,
        stage: str,
        retries: int,
        correlation_id: str | None,
        successful: bool,
    ) -> None:
        log = self._log.info if successful else self._log.warning
        log(
            "DLQ_MESSAGE_PROCESSED",
            letter_id=letter_id,
            stage=stage,
            retries=retries,
            correlation_id=correlation_id,
            successful=successful,
            msg="A dead letter was tried again",
        )

    def dlq_message_abandoned(
        self, *, letter_id: int, stage: str, retries: int, correlation_id: str | None
    ) -> None:
        self._log.error(
            "DLQ_MESSAGE_ABANDONED",
            letter_id=letter_id,
            stage=stage,
            retries=retries,
            correlation_id=correlation_id,
            msg="A dead letter failed for the last time; `waemitter dlq` shows it",
        )

    def session_cleanup_started(self) -> None:
        self._log.info("SESSION_CLEANUP_STARTED", msg="Old sessions are deleted")

    def session_cleanup_completed(self, *, sessions: int, letters: int, took: float) -> None:
        """`letters`: dead letters that ended long ago."""
        self._log.info(
            "SESSION_CLEANUP_COMPLETED",
            sessions=sessions,
            letters=letters,
            took=round(took, 6),
            msg="Old sessions and dead letters are gone",
        )

    def retention_completed(self, *, deleted: int, took: float) -> None:
        """`deleted`: rows."""
        self._log.info(
            "RETENTION_COMPLETED", deleted=deleted, took=round(took, 6), msg="Old rows are gone"
        )
