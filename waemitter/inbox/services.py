"""The loops that work off the journal, put together; the daemon runs them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple, Protocol

from waemitter.inbox.effects import Effects
from waemitter.inbox.failures import Failures
from waemitter.inbox.fields.actions import FieldActions, OptOuts, Rules
from waemitter.inbox.fields.store import FieldStore
from waemitter.inbox.gathering.gatherer import Gatherer
from waemitter.inbox.journal.courtesy import Courteous
from waemitter.inbox.journal.handover import LocalHandover
from waemitter.inbox.media.wishes import Wishes
from waemitter.inbox.parked import ParkedStatuses
from waemitter.inbox.splitter import Splitter
from waemitter.inbox.store import InboxStore
from waemitter.observe.events import Events
from waemitter.outbox.store import OutboxStore
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.due_loop import DueLoop, DueTable, Fixed, Row
from waemitter.runtime.supervise import Service, Stop

ONE: Final = 1  # batch at a time: its size is the statement's


class Redo(Protocol):
    async def __call__(self, *, source: str, payload: str) -> None:
        """Handle the item of a dead letter once more; see Splitter.redo."""
        ...


class InboxLoops(NamedTuple):
    services: dict[str, Service]
    redo: Redo


def inbox_services(  # noqa: PLR0913 what the inbox needs, by name
    store: InboxStore,
    outbox: OutboxStore,
    failures: Failures,
    *,
    rules: Rules,
    gatherer: Gatherer,
    events: Events,
    bell: Bell,
    lanes_freed: Callable[[], None],
    sweep_interval: float,
    media: Wishes | None = None,
    handover: LocalHandover | None = None,
    jitter: Callable[[], float],
) -> InboxLoops:
    """`bell`: there are webhooks; `lanes_freed()`: messages of the outbox may go on; the rest as of a DueLoop.

    `media`: who wants the files that come with messages; `handover`: see Splitter.
    """
    parked = Bell()  # rung by the splitter alone: what another daemon parks, that one looks after

    loop = partial(_loop, events=events, sweep_interval=sweep_interval, jitter=jitter)
    knowledge = FieldStore()
    actions = FieldActions(knowledge, rules, events=events, released=lanes_freed)
    optouts = OptOuts(knowledge, rules, events=events)
    splitter = Splitter(
        store,
        Effects(
            *(store, outbox, failures),
            fields=actions.handlers,
            listener=optouts.hear,
            gatherer=gatherer,
            media=media,
        ),
        learn=knowledge.learn,
        events=events,
        lanes_freed=lanes_freed,
        parked=parked.ring,
        reserve=outbox.reserve_inbound,
        clock=time.monotonic,
        handover=handover,
    )
    again = ParkedStatuses(store, outbox, failures, events=events, lanes_freed=lanes_freed)
    services: dict[str, Service] = {
        "splitter": _to_the_end(loop(Courteous(splitter), bell).run, splitter.close),
        "parked": loop(again, parked).run,
    }
    return InboxLoops(services, splitter.redo)


def _to_the_end(service: Service, close: Callable[[], Awaitable[None]]) -> Service:
    async def run(stop: Stop) -> None:
        await service(stop)
        await close()

    return run


def _loop(
    table: DueTable[Row],
    bell: Bell,
    *,
    events: Events,
    sweep_interval: float,
    jitter: Callable[[], float],
) -> DueLoop[Row]:
    return DueLoop(
        table,
        bell,
        capacity=Fixed(ONE),
        batch_size=ONE,
        sweep_interval=sweep_interval,
        jitter=jitter,
        database_lost=lambda error: events.database_lost(error=error),
    )
