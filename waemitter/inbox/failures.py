"""What Meta's failures by webhook ask for, beyond that the message failed.

It is sent again or gets its dead letter, its channel pauses, its template is held. A message that Meta took can still fail for
its account's sake: 131042 and 131031 may come this way alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from waemitter.observe.events import Events
from waemitter.outbox.channels.store import ChannelStore, Connection, Template
from waemitter.outbox.letters.store import Failed, FailureUpdate, LetterStore
from waemitter.outbox.retry import Patience, Pause, after_failure, consequence
from waemitter.outbox.store import StatusUpdate
from waemitter.whatsapp.errors import Refused


class Failure(NamedTuple):
    """One failed status, as apply_statuses() was given it, and what Meta's errors mean."""

    update: StatusUpdate
    phone_number_id: str | None
    refused: Refused


class Notice(NamedTuple):
    """Errors about a number, without a message."""

    phone_number_id: str | None
    refused: Refused


class Paused(NamedTuple):
    channel: str
    reason: str
    seconds: float


class Failures:
    def __init__(
        self,
        letters: LetterStore,
        channels: ChannelStore,
        *,
        events: Events,
        patience: Patience,
        jitter: Callable[[], float],
        requeued: Callable[[], None],
    ) -> None:
        """`jitter()` gives a factor near 1; `requeued()`: messages are in the queue again."""
        self._letters = letters
        self._channels = channels
        self._events = events
        self._patience = patience
        self._jitter = jitter
        self._requeued = requeued

    async def apply(
        self,
        connection: Connection,
        failures: Sequence[Failure],
        notices: Sequence[Notice] = (),
    ) -> Callable[[], None]:
        """Within the caller's transaction, after its apply_statuses(). Returns what tells of it, once it is committed."""
        updates = [self._update(failure) for failure in failures]
        failed = await self._letters.apply_failures(connection, updates, patience=self._patience)
        held = await self._hold(connection, failures, failed)
        paused = await self._pause(connection, [*failures, *notices])
        await self._slow(connection, [*failures, *notices])

        def tell() -> None:
            for each in failed:
                self._tell(each, failures[each.n - 1].refused)
            for template, reason in held.items():
                self._events.template_held(
                    channel=template.channel, template=template.name, reason=reason
                )
            for channel, error_class, seconds in paused:
                self._events.channel_paused(channel=channel, reason=error_class, seconds=seconds)
            if any(each.delay is not None for each in failed):
                self._requeued()

        return tell

    def _update(self, failure: Failure) -> FailureUpdate:
        refused = failure.refused
        again = after_failure(refused, patience=self._patience, jitter=self._jitter())
        return FailureUpdate(
            message_id=failure.update.message_id,
            token=failure.update.token,
            wamid=failure.update.wamid,
            code=failure.update.code,
            error_class=refused.error_class,
            again=again.again,
            tries=again.tries,
            delay=again.delay,
            suppress=refused.suppress,
        )

    async def _hold(
        self, connection: Connection, failures: Sequence[Failure], failed: Iterable[Failed]
    ) -> dict[Template, str]:
        held: dict[Template, str] = {}
        for each in failed:
            refused = failures[each.n - 1].refused
            seconds = consequence(refused).hold
            if seconds is None or each.template is None:
                continue
            template = Template(each.channel, each.template, each.language or "")
            if template not in held:
                held[template] = refused.message
                await self._channels.hold(
                    template, reason=_words(refused), seconds=seconds, within=connection
                )
        return held

    async def _pause(
        self, connection: Connection, told: Sequence[Failure | Notice]
    ) -> list[Paused]:
        """Once for each number and class: the latest that was told, since a pause counts from when Meta said so."""
        latest: dict[tuple[str, str], tuple[datetime.datetime | None, Pause, Refused]] = {}
        for each in told:
            pause = consequence(each.refused).pause
            if pause is None or each.phone_number_id is None:
                continue
            at = each.update.at if isinstance(each, Failure) else None
            key = (each.phone_number_id, each.refused.error_class.value)
            before = latest.get(key)
            if before is None or (before[0] is not None and (at is None or at > before[0])):
                latest[key] = (at, pause, each.refused)
        paused: list[Paused] = []
        for (number, error_class), (at, pause, refused) in latest.items():
            names = await self._channels.pause(
                reason=_words(refused),
                seconds=pause.seconds,
                phone_number_id=number,
                account=pause.account,
                happened=at,
                within=connection,
            )
            paused += [Paused(name, error_class, pause.seconds) for name in names]
        return paused

    async def _slow(self, connection: Connection, told: Sequence[Failure | Notice]) -> None:
        """Lower the rates of the numbers whose limit was met, each once, by the latest that was told."""
        latest: dict[str, datetime.datetime | None] = {}
        for each in told:
            if not consequence(each.refused).slower or each.phone_number_id is None:
                continue
            at = each.update.at if isinstance(each, Failure) else None
            before = latest.setdefault(each.phone_number_id, at)
            if before is not None and (at is None or at > before):
                latest[each.phone_number_id] = at
        for number, at in sorted(latest.items()):
            await self._channels.throttle(phone_number_id=number, happened=at, within=connection)

    def _tell(self, failed: Failed, refused: Refused) -> None:
        self._events.delivery_failed(
            channel=failed.channel,
            message_id=failed.message_id,
            correlation_id=failed.correlation_id,
            attempt=failed.attempt,
            error_class=refused.error_class,
            error_code=refused.code,
            delay=failed.delay,
        )


def _words(refused: Refused) -> str:
    return f"{refused.error_class}: {refused.message}"
