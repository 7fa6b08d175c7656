"""Everything goes wrong at once, connections, answers, daemons and Postgres: nothing is lost, nothing is doubled.

CHAOS_MESSAGES=20000 sends so many, and kills five daemons and restarts Postgres twice.
"""

from __future__ import annotations

import asyncio
import datetime
import os
from collections import Counter
from typing import Any, Final

import pytest

from tests.e2e.scene import Scene, free_port, kill, until
from waemitter.db.embedded import EmbeddedPostgres, StopMode
from waemitter.ops.processes import Child

MESSAGES: Final = int(os.environ.get("CHAOS_MESSAGES", "2000"))
FULL: Final = MESSAGES >= 20_000
KILLS: Final = 5 if FULL else 2
RESTARTS: Final[tuple[StopMode, ...]] = ("fast", "immediate") if FULL else ("immediate",)
WITHIN: Final = 60 + MESSAGES / 25  # seconds

FAULTS: Final = (
    *("--messages-per-second", "0", "--pair-seconds", "0", "--no-error-recipients"),
    *("--latency", "0.1", "--jitter", "0.1"),
    *("--drop-after", "0.02", "--hang-after", "0.01", "--error-mix", "131016=0.05"),
    *("--duplicate-webhooks", "0.05", "--reorder-webhooks", "0.1"),
    *("--sent-delay", "0.1", "0.6", "--webhook-retry-max", "30"),
)
PATIENT: Final = {
    "WAEMITTER_CHANNEL__MESSAGES_PER_SECOND": "400" if FULL else "200",
    "WAEMITTER_OUTBOX__MAX_ATTEMPTS": "20",
    "WAEMITTER_OUTBOX__UNCONFIRMED_GRACE": "4s",
}
HELD: Final = """
    select count(*) from waemitter.outbox_messages where status = 'unconfirmed' and hold = 'unconfirmed'
"""
UNDECIDED: Final = """
    select count(*) from waemitter.outbox_messages
    where available_at is not null and hold is distinct from 'unconfirmed'
"""
RESENT: Final = """
    select count(*) from waemitter.outbox_transitions where from_status = 'unconfirmed' and to_status = 'queued'
"""
CONFIRMED: Final = """
    select count(*) from waemitter.outbox_transitions
    where from_status = 'unconfirmed' and detail ->> 'by' = 'status webhook'
"""
A_MINUTE_LATER: Final = """
    update waemitter.webhook_logs set available_at = clock_timestamp() where available_at is not null
"""
"""What the dead daemon had leased of the journal is anybody's again."""
LEASES: Final = "select count(*) from waemitter.outbox_messages where status = 'sending'"


class Havoc:
    """Kills and restarts, evenly over the run."""

    def __init__(self, scene: Scene, postgres: EmbeddedPostgres, environ: dict[str, str]) -> None:
        self._scene = scene
        self._postgres = postgres
        self._environ = PATIENT | environ | {"WAEMITTER_HTTP__PORT": str(free_port())}
        self.in_hand: list[int] = []
        self.starts: set[datetime.datetime] = set()

    async def play(self, *flags: str) -> None:
        running, _ = await self._scene.play(*FAULTS, *flags, environ=self._environ)
        await self._scene.enqueue(MESSAGES)
        blows = sorted([*range(KILLS)] + [n + 0.5 for n in range(len(RESTARTS))])
        for n, blow in enumerate(blows, 1):
            await self._scene.accepts(n * MESSAGES // (len(blows) + 1), within=WITHIN)
            if blow == int(blow):
                running = await self._kill(running)
            else:
                await asyncio.to_thread(self._postgres.restart, RESTARTS[len(self.starts)])
                self.starts.add(await self._scene.value("select pg_postmaster_start_time()"))

    async def _kill(self, running: Child) -> Child:
        await kill(running)
        self.in_hand.append(await self._scene.value(LEASES))
        await self._scene.fetch(A_MINUTE_LATER)
        running, _ = await self._scene.daemon(self._environ)
        return running


def fired(report: dict[str, Any], havoc: Havoc) -> bool:
    """Whether each fault happened: else nothing was proven."""
    return (
        report["faults"]["drop_after"] > 0
        and report["faults"]["hang_after"] > 0
        and report["refused_by_code"]["131016"] > 0
        and len(havoc.in_hand) == KILLS
        and all(havoc.in_hand)
        and len(havoc.starts) == len(RESTARTS)
    )


async def everything_accepted(scene: Scene) -> set[str]:
    """The recipients of all that the simulator accepted."""
    found: set[str] = set()
    after: int | None = 0
    while after is not None:
        page = await scene.control("GET", f"messages?limit=10000&after={after}")
        found |= {message["to"] for message in page["messages"]}
        after = page["next"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(2 * WITHIN)
async def test_with_webhooks_nothing_is_lost_and_nothing_doubled(
    own_scene: Scene, own_postgres: EmbeddedPostgres
):
    havoc = Havoc(own_scene, own_postgres, {})
    await havoc.play()

    statuses = await own_scene.all_reach("sent", "delivered", "read", within=WITHIN)
    report = await own_scene.report()
    told = Counter(confirmed=await own_scene.value(CONFIRMED), resent=await own_scene.value(RESENT))
    print(statuses, told, havoc.in_hand, report["faults"], report["webhooks"])  # noqa: T201

    assert fired(report, havoc), report
    assert report["webhooks"]["redelivered"] > 0
    assert told["confirmed"] > 0
    assert told["resent"] > 0
    assert statuses.total() == MESSAGES
    assert (report["distinct"], report["duplicates"]) == (MESSAGES, 0)


@pytest.mark.slow
@pytest.mark.timeout(2 * WITHIN)
async def test_without_webhooks_under_hold_nothing_is_lost_or_doubled_and_what_is_unknown_is_listed(
    own_scene: Scene, own_postgres: EmbeddedPostgres
):
    havoc = Havoc(own_scene, own_postgres, {"WAEMITTER_OUTBOX__UNCONFIRMED_POLICY": "hold"})
    await havoc.play("--no-statuses")

    async def decided() -> bool:
        return bool(await own_scene.value(UNDECIDED) == 0)

    await until(decided, within=WITHIN)
    report = await own_scene.report()
    statuses = await own_scene.statuses()
    listed = (
        await own_scene.command(
            "outbox", "list", "--status", "unconfirmed", "--limit", "10000", "--json"
        )
    ).json()
    accepted = await everything_accepted(own_scene)
    held = {row["recipient"].removeprefix("+") for row in listed}
    rows = await own_scene.fetch("select recipient from waemitter.outbox_messages")
    recipients = {row["recipient"].removeprefix("+") for row in rows}
    print(statuses, len(held - accepted), havoc.in_hand, report["faults"])  # noqa: T201

    assert fired(report, havoc), report
    assert statuses.keys() == {"sent", "unconfirmed"}
    assert len(listed) == statuses["unconfirmed"] == await own_scene.value(HELD)
    assert recipients == accepted | held
    assert report["duplicates"] == 0
