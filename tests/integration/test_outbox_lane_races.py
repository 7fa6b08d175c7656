"""Producers and claims that race: lanes keep their order all the same."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections import Counter

import asyncpg
import pytest

from waemitter.outbox.message import Attempt
from waemitter.outbox.retry import Decision, Outcome
from waemitter.outbox.store import OutboxStore, Settlement

ENQUEUE = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, ordering_key, priority)
    select '+1415555' || g, 'text', '{}', $1::text, $3::smallint from generate_series(1, $2::integer) g
"""


class Referee:
    """Watches from outside: who is in flight in a lane, and who was last sent."""

    def __init__(self, lanes: dict[int, str]) -> None:
        self.lanes = lanes
        self.in_flight: Counter[str] = Counter()
        self.last_sent: dict[str, int] = {}
        self.taken: Counter[int] = Counter()
        self.fouls: list[str] = []

    def started(self, attempt: Attempt, lane: str) -> None:
        if lane == "":
            return
        self.in_flight[lane] += 1
        if self.in_flight[lane] > 1:
            self.fouls.append(f"two of lane {lane} at once, the second is {attempt.id}")
        if self.last_sent.get(lane, 0) > attempt.id:
            self.fouls.append(f"{attempt.id} of lane {lane} after {self.last_sent[lane]}")

    def ended(self, attempt: Attempt, lane: str, *, sent: bool) -> None:
        self.taken[attempt.id] += sent
        if lane == "":
            return
        self.in_flight[lane] -= 1
        if sent:
            self.last_sent[lane] = max(self.last_sent.get(lane, 0), attempt.id)


async def claim(store: OutboxStore, limit: int) -> list[Attempt]:
    claimed = await store.claim(
        "default",
        limit=limit,
        lease=datetime.timedelta(seconds=15),
        horizon=datetime.timedelta(seconds=0.2),
        grace=datetime.timedelta(seconds=60),
        policy="retry",
        retries=100,
    )
    return claimed.attempts


async def produce(pool: asyncpg.Pool[asyncpg.Record], rng: random.Random, name: int) -> None:
    async with pool.acquire() as connection:
        for _ in range(80):
            lane = rng.choice([f"hot{name}"] * 3 + [f"l{name}.{rng.randrange(20)}"] * 6 + [""])
            async with connection.transaction():
                await connection.execute(
                    ENQUEUE, lane, rng.choice((1, 1, 3, 40)), rng.choice((0, 0, 0, 5))
                )
                if rng.random() < 0.1:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(rng.random() * 0.01)


async def consume(
    pool: asyncpg.Pool[asyncpg.Record],
    rng: random.Random,
    referee: Referee,
    done: asyncio.Event,
) -> None:
    store = OutboxStore(pool)
    while not done.is_set():
        attempts = await claim(store, rng.choice((5, 20, 100)))
        if not attempts:
            await asyncio.sleep(0.003)
            continue
        records = await pool.fetch(
            "select id, lane from waemitter.outbox_messages where id = any ($1)",
            [attempt.id for attempt in attempts],
        )
        lanes: dict[int, str] = {record["id"]: record["lane"] for record in records}
        for attempt in attempts:
            referee.started(attempt, lanes[attempt.id])
        await asyncio.sleep(rng.random() * 0.01)
        rng.shuffle(attempts)
        for part in (attempts[::2], attempts[1::2]):
            settlements = []
            for attempt in part:
                sent = rng.random() >= 0.1
                referee.ended(attempt, lanes[attempt.id], sent=sent)
                decision = (
                    Decision(Outcome.SENT, wamid=f"wamid.{attempt.id}")
                    if sent
                    else Decision(Outcome.RETRY, delay=0.02)
                )
                settlements.append(Settlement(attempt.id, attempt.token, decision))
            if settlements:
                settled = await store.settle(settlements)
                assert settled.stale == []


@pytest.mark.parametrize("pair_seconds", [0.0, 0.005], ids=["no pair limit", "pair limit"])
async def test_lanes_keep_their_order_and_nothing_is_taken_twice_or_left_behind(
    dsn: str, pair_seconds: float
) -> None:
    async with asyncpg.create_pool(dsn, min_size=8, max_size=10) as pool:
        await pool.execute(
            "update waemitter.channels set messages_per_second = 0, pair_seconds = $1, pair_burst = 1",
            pair_seconds,
        )
        referee, done = Referee({}), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for seed in range(3):
                group.create_task(consume(pool, random.Random(seed), referee, done))
            async with asyncio.TaskGroup() as producers:
                for seed in range(4):
                    producers.create_task(produce(pool, random.Random(100 + seed), seed))
            left = -1
            for _ in range(600):
                left = await pool.fetchval(
                    "select count(*) from waemitter.outbox_messages where available_at is not null"
                )
                if left == 0:
                    break
                await asyncio.sleep(0.05)
            done.set()
        held = await pool.fetch(
            "select status, hold, count(*) from waemitter.outbox_messages"
            " where available_at is not null group by 1, 2"
        )
        rows = await pool.fetchval("select count(*) from waemitter.outbox_messages")
    assert referee.fouls == []
    assert left == 0, held
    assert sum(referee.taken.values()) == rows
    assert set(referee.taken.values()) == {1}
