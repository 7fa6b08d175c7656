"""One channel's way out: claim, render, POST, decide, settle.

    DueLoop ── claim ──▶ claim_messages()          rows with their send slots, leased
       └────── work ───▶ Carrier.render ▶ Carrier.send ▶ decide ▶ Settler
                                             └──────▶ consequence ▶ pause, hold a template, suppress

A channel has its own loop, so that a limited, paused or failing one never holds up another.
"""

import asyncio
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from waemitter.errors import DatabaseUnreachable, PayloadError
from waemitter.observe.events import Events
from waemitter.outbox.bucket import FlightWindow, ServerClock, missed
from waemitter.outbox.carriers.carrier import Carrier
from waemitter.outbox.channels.store import ChannelStore, Template
from waemitter.outbox.message import Attempt
from waemitter.outbox.permissions.store import PermissionStore
from waemitter.outbox.permissions.window import REFUSAL, WindowPolicy, sort
from waemitter.outbox.retry import Decision, Outcome, Patience, Pause, consequence, decide
from waemitter.outbox.settler import Settler
from waemitter.outbox.store import Applied, Claimed, OutboxStore, Settlement
from waemitter.runtime.doorbell import Bell
from waemitter.runtime.due_loop import Claim, DueLoop
from waemitter.runtime.gears import Gears
from waemitter.runtime.supervise import Stop
from waemitter.whatsapp.errors import Refused

HORIZON: Final = 0.2  # seconds of send slots in one claim
RESERVE: Final = 0.3  # seconds of work that may be leased ahead without a limit: a claim takes that long beside busy neighbours,
CLAIMS_AHEAD: Final = (
    2.0  # … or so many times what the last one took: else a slow one would slow all down,
)
MOST_AHEAD: Final = 5.0  # … yet no more seconds than a lease has to spare
KEPT_STILL: Final = (
    60.0  # seconds at the most for which a pause holds here alone, when it could not be written
)
MARGIN: Final = 0.5  # seconds between the end of the last possible request and the end of its lease


@dataclass(frozen=True, slots=True)
class Sending:
    """How a channel sends. Durations in seconds."""

    enabled: bool
    batch_size: int
    concurrency: int
    lease: float
    request_timeout: float
    unconfirmed_policy: str
    window_policy: WindowPolicy
    sweep_interval: float
    patience: Patience


class Leased(NamedTuple):
    """An attempt, when it leaves (None: at once), and when it is too late to begin; by our clock."""

    attempt: Attempt
    slot: float | None
    start_by: float


class Sender:
    def __init__(  # noqa: PLR0913 what a channel needs, by name
        self,
        channel: str,
        *,
        store: OutboxStore,
        channels: ChannelStore,
        permissions: PermissionStore,
        carrier: Carrier,
        gears: Gears,
        bell: Bell,
        events: Events,
        sending: Sending,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        """`clock` in seconds, monotonic; `jitter()` gives a factor near 1."""
        self._channel = channel
        self._store = store
        self._channels = channels
        self._permissions = permissions
        self._carrier = carrier
        self._gears = gears
        self._bell = bell
        self._events = events
        self._sending = sending
        self._clock = clock
        self._jitter = jitter
        self._server: Final = ServerClock()
        self._window: Final = FlightWindow(most=sending.concurrency)
        self._limited = True
        self._claim_took = 0.0
        self._paused_until = float("-inf")
        self._pause_written_at: float | None = None
        self._held_until: dict[Template, float] = {}
        self._settler: Final = Settler(
            store,
            requeued=bell.ring,
            stale=lambda count: events.settled_stale(channel=channel, count=count),
            late=self._tell_late,
            database_lost=lambda error: events.database_lost(error=error),
            clock=clock,
        )

    async def run(self, stop: Stop) -> None:
        loop = DueLoop(
            self,
            self._bell,
            capacity=self,
            batch_size=self._sending.batch_size,
            sweep_interval=self._sending.sweep_interval,
            jitter=self._jitter,
            database_lost=lambda error: self._events.database_lost(error=error),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._settler.run())
            await loop.run(stop)
            self._settler.close()

    def workers(self) -> int:
        # A limit spaces the messages out by itself; most of these workers only wait for their slot.
        return self._sending.concurrency if self._limited else self._window.size

    def reserve(self) -> int:
        if self._limited:
            return 0
        ahead = min(self._claim_took * CLAIMS_AHEAD, MOST_AHEAD, self._sending.lease / 4)
        return int(self._window.rate * max(RESERVE, ahead))

    async def claim(self, limit: int) -> Claim[Leased]:
        sending = self._sending
        asked_at = self._clock()
        claimed = await self._store.claim(
            self._channel,
            limit=limit,
            lease=datetime.timedelta(seconds=sending.lease),
            horizon=datetime.timedelta(seconds=HORIZON),
            grace=datetime.timedelta(seconds=sending.patience.grace),
            policy=sending.unconfirmed_policy,
            retries=sending.patience.max_attempts,
        )
        now = self._clock()
        self._claim_took = now - asked_at
        self._server.observe(claimed.clock, now=now)
        if claimed.rate is not None:
            self._limited = claimed.rate > 0
        start_by = now + sending.lease - sending.request_timeout - MARGIN
        attempts = await self._in_window(claimed.attempts)
        if self._limited:
            attempts.sort(key=lambda attempt: attempt.slot)
        rows = [
            Leased(attempt, self._server.ours(attempt.slot) if self._limited else None, start_by)
            for attempt in attempts
        ]
        self._tell_claim(claimed, asked_at)
        saturated = not self._limited and len(rows) >= limit
        not_before = 0.0 if claimed.not_before is None else claimed.not_before - claimed.clock
        self._gears.claimed(len(rows), saturated=saturated, again_in=not_before)
        return Claim(
            rows,
            next_due=None if claimed.next_due is None else claimed.next_due - claimed.clock,
            not_before=not_before,
        )

    async def _in_window(self, attempts: list[Attempt]) -> list[Attempt]:
        """Those that may leave by the channel's policy; the others fail here, before their slot."""
        policy = self._sending.window_policy
        if policy is WindowPolicy.SEND or not attempts:
            return attempts
        try:
            outside = await self._permissions.outside_window([each.id for each in attempts])
        except DatabaseUnreachable:
            for attempt in attempts:
                self._give_back(attempt)
            raise
        found = sort(attempts, outside, policy=policy)
        for attempt in found.refused:
            self._tell_failure(
                attempt,
                error_class=REFUSAL.error_class or "",
                code=REFUSAL.code,
                reason=REFUSAL.reason or "",
            )
            self._settler.settle(Settlement(attempt.id, attempt.token, REFUSAL))
        return found.allowed

    async def work(self, row: Leased) -> None:
        attempt = row.attempt
        if row.slot is not None and (wait := row.slot - self._clock()) > 0:
            self._events.slot_awaited(channel=self._channel, wait=wait)
            await asyncio.sleep(wait)
        now = self._clock()
        late = row.slot is not None and missed(row.slot, now=now)
        if late or now > row.start_by or now < self._paused_until:
            return self._give_back(attempt)
        try:
            decision = await self._send(attempt, now)
        except DatabaseUnreachable as error:  # before anything left
            self._events.database_lost(error=str(error))
            return self._give_back(attempt)
        self._settler.settle(Settlement(attempt.id, attempt.token, decision))
        return None

    async def release(self, rows: Sequence[Leased]) -> None:
        for row in rows:
            self._give_back(row.attempt)

    def _give_back(self, attempt: Attempt) -> None:
        self._events.slot_missed(channel=self._channel, count=1)
        self._settler.settle(
            Settlement(attempt.id, attempt.token, Decision(Outcome.RELEASE, delay=0.0))
        )

    async def _send(self, attempt: Attempt, started: float) -> Decision:
        try:
            body = self._carrier.render(attempt)
        except PayloadError as error:
            self._tell_failure(attempt, error_class="PAYLOAD", code=None, reason=str(error))
            return Decision(Outcome.FAILED, reason=str(error), error_class="PAYLOAD")
        pickup = started - self._server.ours(attempt.due) if attempt.number == 1 else None
        if not self._sending.enabled:
            self._tell_sent(attempt, took=0.0, pickup=pickup, dry_run=True)
            return Decision(Outcome.DRY_RUN)
        answer, answered = await self._carrier.send(attempt, body)
        now = self._clock()
        if answered:
            self._window.answered(now - started, now=now)
        decision = decide(
            answer,
            attempt=attempt.number,
            max_attempts=attempt.max_attempts,
            patience=self._sending.patience,
            jitter=self._jitter(),
        )
        if isinstance(answer, Refused):
            self._tell_refusal(attempt, answer, decision)
            await self._heed(attempt, answer)
        else:
            self._tell_sent(attempt, took=now - started, pickup=pickup, dry_run=False)
        return decision

    def _tell_late(self, applied: Applied) -> None:
        for resolution, count in applied.resolutions():
            self._events.unconfirmed_resolved(resolution=resolution, count=count)

    def _tell_claim(self, claimed: Claimed, asked_at: float) -> None:
        self._events.database_back()
        if claimed.lost:
            self._events.lease_expired(channel=self._channel, count=claimed.lost)
        if claimed.resent:
            self._events.unconfirmed_resolved(resolution="resent", count=claimed.resent)
        if claimed.held:
            self._events.unconfirmed_resolved(resolution="held", count=claimed.held)
        if not claimed.attempts:
            return
        if self._pause_written_at is not None and asked_at > self._pause_written_at:
            self._pause_written_at = None
            self._paused_until = float("-inf")
            self._events.channel_resumed(channel=self._channel)
        self._events.batch_claimed(channel=self._channel, rows=len(claimed.attempts))

    def _tell_sent(
        self, attempt: Attempt, *, took: float, pickup: float | None, dry_run: bool
    ) -> None:
        self._events.message_sent(
            channel=self._channel,
            message_id=attempt.id,
            correlation_id=attempt.correlation_id,
            attempt=attempt.number,
            took=took,
            pickup=pickup,
            dry_run=dry_run,
        )

    def _tell_failure(
        self, attempt: Attempt, *, error_class: str, code: int | None, reason: str
    ) -> None:
        self._events.failed_permanently(
            channel=self._channel,
            message_id=attempt.id,
            correlation_id=attempt.correlation_id,
            attempt=attempt.number,
            error_class=error_class,
            error_code=code,
            reason=reason,
        )

    def _tell_refusal(self, attempt: Attempt, answer: Refused, decision: Decision) -> None:
        match decision.outcome:
            case Outcome.UNCONFIRMED:
                self._events.unconfirmed(
                    channel=self._channel,
                    message_id=attempt.id,
                    correlation_id=attempt.correlation_id,
                    attempt=attempt.number,
                    reason=answer.message,
                )
            case Outcome.FAILED:
                self._tell_failure(
                    attempt,
                    error_class=answer.error_class,
                    code=answer.code,
                    reason=answer.message,
                )
            case _:
                self._events.retry_scheduled(
                    channel=self._channel,
                    message_id=attempt.id,
                    correlation_id=attempt.correlation_id,
                    attempt=attempt.number,
                    error_class=answer.error_class,
                    error_code=answer.code,
                    delay=decision.delay or 0.0,
                )

    async def _heed(self, attempt: Attempt, answer: Refused) -> None:
        """Do what a refusal asks for beyond its message. Without the database the next refusal asks again."""
        asked = consequence(answer)
        try:
            if asked.pause is not None:
                await self._pause(asked.pause, answer, slower=asked.slower)
            if asked.hold is not None:
                await self._hold(attempt, answer, asked.hold)
            if asked.suppress:
                await self._channels.suppress(
                    channel=self._channel, recipient=attempt.recipient, source=f"code {answer.code}"
                )
        except DatabaseUnreachable as error:
            self._events.database_lost(error=str(error))

    async def _pause(self, pause: Pause, answer: Refused, *, slower: bool) -> None:
        """Stop the channel, once for all the messages that learn of it at the same time; with others of its account."""
        now = self._clock()
        seconds = min(pause.seconds, KEPT_STILL)
        if self._paused_until >= now + seconds / 2:
            return
        self._paused_until = now + seconds
        paused = await self._channels.pause(
            channel=self._channel,
            seconds=pause.seconds,
            reason=f"{answer.error_class}: {answer.message}",
            account=pause.account,
        )
        self._pause_written_at = self._clock()
        if slower:
            await self._channels.throttle(channel=self._channel)
        for channel in paused:
            self._events.channel_paused(
                channel=channel, reason=answer.error_class, seconds=pause.seconds
            )

    async def _hold(self, attempt: Attempt, answer: Refused, seconds: float) -> None:
        """Hold the message's template, once for all the messages that learn of it at the same time."""
        template = _template(self._channel, attempt)
        now = self._clock()
        if template is None or self._held_until.get(template, now) > now:
            return
        self._held_until = {each: at for each, at in self._held_until.items() if at > now}
        self._held_until[template] = now + self._sending.request_timeout
        await self._channels.hold(
            template, reason=f"{answer.error_class}: {answer.message}", seconds=seconds
        )
        self._events.template_held(
            channel=self._channel, template=template.name, reason=answer.message
        )


def _template(channel: str, attempt: Attempt) -> Template | None:
    if attempt.message_type != "template":
        return None
    template = orjson.loads(attempt.payload)["template"]
    return Template(channel, template["name"], template["language"]["code"])
