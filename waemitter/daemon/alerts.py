"""Who must be told that something is wrong: the watch, the job, and the address."""

from __future__ import annotations

import datetime
import socket
import time

from waemitter.daemon.shared import Shared, secret
from waemitter.jobs.alerts.away import Away
from waemitter.jobs.alerts.notifier import Notifier
from waemitter.jobs.alerts.receiver import Receiver
from waemitter.jobs.alerts.rules import Limits
from waemitter.jobs.alerts.store import AlertStore
from waemitter.jobs.alerts.watch import Watch
from waemitter.runtime.supervise import Service


class Alerts:
    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._store = AlertStore(shared.pool)
        self._receiver = _receiver(shared)

    def services(self) -> dict[str, Service]:
        shared, settings = self._shared, self._shared.settings
        instance = f"{socket.gethostname()}:{settings.http.port}"
        watch = Watch(
            self._store,
            shared.metrics,
            limits=Limits(
                stuck=settings.alerts.stuck,
                dead_letters=settings.alerts.dead_letters,
                p95=settings.alerts.p95,
                slo_p95=settings.slo.p95,
                oldest_due=settings.alerts.oldest_due,
                failure_ratio=settings.alerts.failure_ratio,
            ),
            every=settings.alerts.interval,
            instance=instance,
            away=Away(
                self._receiver,
                instance=instance,
                events=shared.events,
                clock=time.monotonic,
                wall=lambda: datetime.datetime.now(datetime.UTC),
            ),
            events=shared.events,
            clock=time.monotonic,
        )
        return {"alerts": watch.run}

    def notifier(self, jobs: tuple[str, ...]) -> Notifier:
        """`jobs`: those that are to succeed."""
        alerts = self._shared.settings.alerts
        return Notifier(
            self._store,
            jobs=jobs,
            every=alerts.interval,
            repeat=alerts.repeat,
            receiver=self._receiver,
            events=self._shared.events,
            clock=time.monotonic,
        )


def _receiver(shared: Shared) -> Receiver | None:
    alerts = shared.settings.alerts
    url = secret(alerts.webhook_url)
    if url is None:
        return None
    return Receiver(
        shared.session,
        url=url,
        token=secret(alerts.webhook_token),
        external_url=alerts.external_url or "",
    )
