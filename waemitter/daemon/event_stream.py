"""What happened, told to those who are subscribed: a loop for each subscription of the settings."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from types import MappingProxyType, ModuleType
from typing import Final

from waemitter.daemon.shared import EVENTS, Shared, jitter, secret
from waemitter.errors import UsageError
from waemitter.jobs.event_stream.deliverer import Deliverer, Policy, Target
from waemitter.jobs.event_stream.store import EventStore
from waemitter.jobs.event_stream.targets.webhook import Webhook
from waemitter.runtime.due_loop import DueLoop, Fixed
from waemitter.runtime.supervise import Service, Stop
from waemitter.settings import EventSettings, EventTable, Settings
from waemitter.turns.handlers.webhook_signature import key_of

TRACING: Final = "opentelemetry"
"""The subscription by which traces are made; not for the settings' own."""
_EXTRAS: Final[Mapping[str, str]] = MappingProxyType({"tracing": "otel"})
LEASE_MARGIN: Final = 30.0
"""Seconds beyond a delivery's time-out in which its outcome must be written."""


class EventStream:
    def __init__(self, shared: Shared) -> None:
        """Raises UsageError when a subscription needs an extra that is not installed."""
        self._shared = shared
        self._store = EventStore(shared.pool)
        self._subscribed = tuple(_subscribed(shared.settings))
        self._targets = {each.name: _TARGETS[each.kind](shared, each) for each in self._subscribed}

    async def prepare(self) -> None:
        """Make the subscriptions' rows agree with the settings. Raises DatabaseUnreachable."""
        mine = self._subscribed
        for each in mine:
            changed = await self._store.subscribe(
                each.name, kind=each.kind, target=each.target, types=each.table.types
            )
            self._shared.events.subscription_served(
                subscription=each.name, kind=each.kind, types=each.table.types, changed=changed
            )
        orphans = set(await self._store.known()) - {each.name for each in mine}
        if TRACING in orphans:
            orphans.remove(TRACING)
            await self._store.forget(TRACING)
        if orphans:
            self._shared.events.subscriptions_orphaned(subscriptions=sorted(orphans))

    def services(self) -> dict[str, Service]:
        return {f"events to {each.name}": self._service(each) for each in self._subscribed}

    def _service(self, subscription: EventSettings) -> Service:
        shared, target = self._shared, self._targets[subscription.name]
        table = subscription.table
        loop = DueLoop(
            Deliverer(
                subscription.name,
                target,
                store=self._store,
                events=shared.events,
                look_again=lambda: shared.doorbell.ring(EVENTS),
                policy=Policy(
                    lease=table.timeout + LEASE_MARGIN,
                    give_up_after=table.give_up_after,
                    disable_after=table.disable_after,
                ),
                clock=time.time,
                jitter=jitter,
            ),
            shared.doorbell.bell(EVENTS),
            capacity=Fixed(table.concurrency),
            batch_size=table.concurrency,
            sweep_interval=shared.settings.outbox.sweep_interval,
            jitter=jitter,
            database_lost=lambda error: shared.events.database_lost(error=error),
        )

        async def run(stop: Stop) -> None:
            async with aclosing(target):
                await loop.run(stop)

        return run


def _subscribed(settings: Settings) -> Iterator[EventSettings]:
    """The subscriptions of the settings, and the one by which traces are made."""
    yield from settings.subscriptions
    if settings.tracing.enabled:
        types = _extra("tracing").TYPES
        yield EventSettings(name=TRACING, tracing=settings.tracing, table=EventTable(types=types))


def _tracing(_: Shared, subscription: EventSettings) -> Target:
    tracing, module = subscription.tracing, _extra("tracing")
    assert tracing is not None  # noqa: S101 - by its kind
    pairs = (pair.partition("=") for pair in (secret(tracing.headers) or "").split(",") if pair)
    headers = {name.strip(): value.strip() for name, _, value in pairs}
    processor = module.exporting(tracing.endpoint, headers)
    target: Target = module.Tracing(processor, service=tracing.service, ratio=tracing.ratio)
    return target


def _webhook(shared: Shared, subscription: EventSettings) -> Target:
    key = secret(subscription.secret)
    return Webhook(
        shared.session,
        url=subscription.table.webhook or "",
        key=None if key is None else key_of(key),
        timeout=subscription.table.timeout,
        clock=time.time,
    )


def _nats(_: Shared, subscription: EventSettings) -> Target:
    table = subscription.table
    target: Target = _extra("nats").Nats(
        table.nats,
        prefix=table.subject,
        jetstream=table.jetstream,
        timeout=table.timeout,
        credentials=subscription.credentials,
    )
    return target


def _kafka(_: Shared, subscription: EventSettings) -> Target:
    module, table = _extra("kafka"), subscription.table
    login = module.Login(
        protocol=table.protocol,
        mechanism=table.mechanism,
        username=table.username,
        password=secret(subscription.password),
    )
    target: Target = module.Kafka(
        lambda: module.producer(table.kafka, login, timeout=table.timeout),
        topic=table.topic,
        timeout=table.timeout,
    )
    return target


def _extra(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"waemitter.jobs.event_stream.targets.{name}")
    except ModuleNotFoundError:
        raise UsageError(
            f"{name} is an extra: pip install 'waemitter[{_EXTRAS.get(name, name)}]'"
        ) from None


_TARGETS: Final[Mapping[str, Callable[[Shared, EventSettings], Target]]] = MappingProxyType(
    {"webhook": _webhook, "nats": _nats, "kafka": _kafka, "tracing": _tracing}
)
