"""Every body that got its 200 is in the journal, and has its effect once, whoever dies in between."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson

from tests.e2e.scene import Scene, events, kill, until
from tests.support import eventually
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.ops.stage import APP_SECRET

SENDERS = 8
MANY = 600

SENT = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, status, available_at, sent_at, whatsapp_message_id)
    select '+14155550123', 'text', '{}', 'sent', null, clock_timestamp() - interval '1 minute', 'wamid.' || n
    from generate_series(0, $1::integer - 1) n
"""
DELIVERED = "select count(*) from waemitter.outbox_messages where status = 'delivered'"
BODIES = "select convert_from(body, 'utf8') as body from waemitter.webhook_logs"
END_LEASES = "update waemitter.webhook_logs set available_at = now() where available_at is not null"
UNPROCESSED = "select count(*) from waemitter.webhook_logs where processed_at is null"


def body(n: int) -> bytes:
    status = {
        "id": f"wamid.{n}",
        "status": "delivered",
        "timestamp": "1793700441",
        "recipient_id": "14155550123",
    }
    value = {"messaging_product": "whatsapp", "statuses": [status]}
    change = {"field": "messages", "value": value}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [{"changes": [change]}]})


@dataclass
class Meta:
    """Posts each body until it gets its 200, to whatever address is the daemon's at the moment."""

    address: str
    answers: Counter[int] = field(default_factory=Counter)
    acknowledged: list[int] = field(default_factory=list)

    async def deliver(self, session: aiohttp.ClientSession, n: int) -> None:
        signature = hmac.new(APP_SECRET.encode(), body(n), hashlib.sha256).hexdigest()
        while True:
            try:
                async with session.post(
                    f"{self.address}/webhooks/whatsapp",
                    data=body(n),
                    headers={"X-Hub-Signature-256": f"sha256={signature}"},
                ) as answer:
                    self.answers[answer.status] += 1
                    if answer.status == 200:
                        self.acknowledged.append(n)
                        return
            except aiohttp.ClientError:
                self.answers[0] += 1
            await asyncio.sleep(0.02)


@asynccontextmanager
async def delivering(address: str, count: int) -> AsyncIterator[Meta]:
    """Leave when all are delivered."""
    meta = Meta(address)
    numbers = iter(range(count))

    async def send(session: aiohttp.ClientSession) -> None:
        for n in numbers:
            await meta.deliver(session, n)

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(SENDERS):
            group.create_task(send(session))
        yield meta


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


async def journalled(scene: Scene) -> Counter[str]:
    return Counter(row["body"] for row in await scene.fetch(BODIES))


async def assert_all_applied(scene: Scene, count: int) -> None:
    await scene.fetch(END_LEASES)  # those of the dead end by themselves, in a minute
    await scene.fetch("notify waemitter_inbox")

    async def applied() -> bool:
        return bool(await scene.value(DELIVERED) == count and await scene.value(UNPROCESSED) == 0)

    await until(applied)


async def test_a_daemon_that_is_killed_takes_nothing_with_it_that_got_its_200(scene: Scene):
    killed, address = await scene.daemon()
    await scene.fetch(SENT, MANY)
    async with delivering(address, MANY) as meta:
        await eventually(lambda: len(meta.acknowledged) >= MANY // 4)
        await kill(killed)
        acknowledged = list(meta.acknowledged)
        found = await journalled(scene)
        _, meta.address = await scene.daemon()

    assert MANY // 4 <= len(acknowledged) < MANY
    assert meta.answers[0] > 0  # it was not there for a while
    assert all(found[body(n).decode()] for n in acknowledged)
    await assert_all_applied(scene, MANY)


async def test_with_a_spool_a_restart_of_postgres_is_nobodys_loss_and_nobodys_503(
    own_scene: Scene, own_postgres: EmbeddedPostgres, tmp_path: Path
):
    daemon, address = await own_scene.daemon({"WAEMITTER_INBOX__SPOOL_DIR": str(tmp_path)})
    await own_scene.fetch(SENT, MANY)
    async with delivering(address, MANY) as meta:
        await eventually(lambda: len(meta.acknowledged) >= MANY // 4)
        await asyncio.to_thread(own_postgres.stop, "immediate")
        before = len(meta.acknowledged)
        await eventually(lambda: len(meta.acknowledged) >= min(MANY, before + 20))
        await asyncio.to_thread(own_postgres.start)

    assert events(daemon, "WEBHOOK_SPOOLING")
    assert meta.answers == {200: MANY}
    await assert_all_applied(own_scene, MANY)
    await eventually(lambda: not files(tmp_path))
    found = await journalled(own_scene)
    assert found == Counter(body(n).decode() for n in range(MANY))


async def test_what_a_killed_daemon_left_in_its_spool_the_next_one_journals_once(
    own_scene: Scene, own_postgres: EmbeddedPostgres, tmp_path: Path
):
    spool = {"WAEMITTER_INBOX__SPOOL_DIR": str(tmp_path)}
    killed, address = await own_scene.daemon(spool)
    await own_scene.fetch(SENT, 100)
    await asyncio.to_thread(own_postgres.stop, "immediate")
    async with delivering(address, 100) as meta:
        pass
    await kill(killed)
    left = files(tmp_path)
    await asyncio.to_thread(own_postgres.start)
    heir, _ = await own_scene.daemon(spool)

    await assert_all_applied(own_scene, 100)

    assert left
    assert meta.answers == {200: 100}
    assert await journalled(own_scene) == Counter(body(n).decode() for n in range(100))
    await eventually(lambda: events(heir, "WEBHOOK_SPOOL_DRAINED"))
    await eventually(lambda: not files(tmp_path))
