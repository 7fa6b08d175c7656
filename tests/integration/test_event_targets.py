"""Each way out, over real sockets: a webhook, NATS with and without a stream; Kafka at the producer's seam."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import nats
import orjson
import pytest
from aiohttp import web
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from nats.aio.client import Client

from tests.receiving_events import SECRET, Receiver, receiver
from tests.support import eventually
from tests.unit.test_event_stream import EVENT
from waemitter.jobs.event_stream.event import CONTENT_TYPE, cloud_event
from waemitter.jobs.event_stream.targets.kafka import Kafka, Login, producer
from waemitter.jobs.event_stream.targets.nats import Nats
from waemitter.jobs.event_stream.targets.webhook import Webhook
from waemitter.turns.handlers.webhook_signature import key_of, sign

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACED = EVENT._replace(traceparent=TRACE)


def either(condition: Callable[[], Awaitable[bool]]) -> Callable[[], Awaitable[bool] | bool]:
    """As `eventually` takes it."""
    return condition


@asynccontextmanager
async def webhook(received: Receiver, timeout: float = 5.0) -> AsyncIterator[Webhook]:
    async with aiohttp.ClientSession() as session:
        yield Webhook(
            session,
            url=received.url,
            key=key_of(SECRET),
            timeout=timeout,
            clock=lambda: 1_795_300_000.5,
        )


async def test_a_webhook_is_signed_by_the_standard_and_says_what_it_is() -> None:
    async with receiver() as received, webhook(received) as target:
        assert (await target.deliver(TRACED)).outcome == "delivered"

    [(headers, event)] = received.seen
    assert event == orjson.loads(cloud_event(TRACED))
    assert headers["Content-Type"] == CONTENT_TYPE
    assert headers["webhook-id"] == EVENT.event_id
    assert headers["webhook-timestamp"] == "1795300000"
    assert headers["traceparent"] == TRACE


async def test_a_redirect_of_a_webhook_is_not_followed() -> None:
    async with receiver() as other:
        location = {"Location": other.url}
        async with (
            receiver(lambda _: web.Response(status=307, headers=location)) as received,
            webhook(received) as target,
        ):
            delivery = await target.deliver(EVENT)

    assert (delivery.outcome, delivery.trouble) == ("refused", "the receiver answered 307")
    assert len(received.seen) == 1
    assert other.seen == []


async def test_a_webhook_s_answer_is_judged_and_its_wish_for_time_heard() -> None:
    slow = web.Response(status=503, headers={"Retry-After": "90"})
    async with receiver(lambda _: slow) as received, webhook(received) as target:
        delivery = await target.deliver(EVENT)

    assert (delivery.outcome, delivery.wait) == ("failed", 90.0)


async def test_who_is_not_there_and_who_is_silent_failed() -> None:
    async with receiver() as received:
        pass
    async with webhook(received) as target:
        gone = await target.deliver(EVENT)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        received.url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        async with webhook(received, timeout=0.05) as target:
            mute = await target.deliver(EVENT)

    assert (gone.outcome, mute.outcome) == ("failed", "failed")
    assert gone.trouble == "the receiver was not reached: ClientConnectorError"
    assert mute.trouble == "the receiver did not answer in time"


@asynccontextmanager
async def nats_server(folder: Path, *arguments: str, port: int = 0) -> AsyncIterator[str]:
    """The address of a server with JetStream, of this test alone."""
    if not port:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder), *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:

        async def listening() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            await writer.wait_closed()
            return True

        await eventually(either(listening), within=20, every=0.02)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def publishing(url: str, *, jetstream: bool = True) -> AsyncIterator[tuple[Nats, Client]]:
    client = await nats.connect(url)
    target = Nats([url], prefix="wa", jetstream=jetstream, timeout=5.0)
    try:
        yield target, client
    finally:
        await target.aclose()
        await client.close()


@pytest.mark.tool("nats-server", package="nats-server")
async def test_a_stream_of_nats_has_each_event_once(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as url, publishing(url) as (target, client):
        stream = client.jetstream()
        await stream.add_stream(name="wa", subjects=["wa.>"])
        for event in (TRACED, TRACED, EVENT._replace(event_id="another")):
            assert (await target.deliver(event)).outcome == "delivered"

        assert (await stream.stream_info("wa")).state.messages == 2
        kept = await stream.get_msg("wa", seq=1)
        assert kept.subject == "wa.message.delivered"
        assert orjson.loads(kept.data or b"") == orjson.loads(cloud_event(TRACED))
        assert kept.headers == {
            "Content-Type": CONTENT_TYPE, "Nats-Msg-Id": EVENT.event_id, "traceparent": TRACE,
        }  # fmt: skip


@pytest.mark.tool("nats-server", package="nats-server")
async def test_nats_without_a_stream_is_a_failure_that_says_what_is_missing(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as url, publishing(url) as (target, _):
        delivery = await target.deliver(EVENT)

    assert (delivery.outcome, delivery.trouble) == (
        "failed", "no stream takes the subject wa.message.delivered: create one",
    )  # fmt: skip


@pytest.mark.tool("nats-server", package="nats-server")
async def test_nats_without_jetstream_reaches_who_listens(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as url, publishing(url, jetstream=False) as (target, client):
        heard = await client.subscribe("wa.message.*")
        await client.flush()
        assert (await target.deliver(EVENT)).outcome == "delivered"
        message = await heard.next_msg(timeout=10)

    assert orjson.loads(message.data)["id"] == EVENT.event_id


@pytest.mark.tool("nats-server", package="nats-server")
async def test_nats_that_goes_away_fails_and_is_found_again(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as url:
        target = Nats([url], prefix="wa", jetstream=False, timeout=0.5)

        async def delivered() -> bool:
            return (await target.deliver(EVENT)).outcome == "delivered"

        await eventually(either(delivered))
    assert not await delivered()
    async with nats_server(tmp_path, port=int(url.rpartition(":")[2])):
        await eventually(either(delivered))
        await target.aclose()


@pytest.mark.tool("nats-server", package="nats-server")
async def test_what_is_larger_than_nats_takes_is_hopeless(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text("max_payload: 1024\n")
    async with nats_server(tmp_path, "-c", str(config)) as url, publishing(url) as (target, _):
        delivery = await target.deliver(EVENT._replace(data=f'"{"x" * 2000}"'))

    assert delivery.outcome == "hopeless"


class Producer:
    """Stands where aiokafka's would: no broker could be had."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.started = self.stopped = 0
        self.sent: list[tuple[str, bytes, bytes, list[tuple[str, bytes]]]] = []

    async def start(self) -> None:
        self.started += 1
        self._fail()

    async def stop(self) -> None:
        self.stopped += 1

    async def send_and_wait(
        self, topic: str, value: bytes, key: bytes, *, headers: list[tuple[str, bytes]]
    ) -> Any:
        self._fail()
        self.sent.append((topic, value, key, headers))

    def _fail(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure


async def test_kafka_gets_an_event_under_its_subject() -> None:
    made = Producer()
    target = Kafka(lambda: made, topic="wa", timeout=5.0)
    assert (await target.deliver(TRACED)).outcome == "delivered"
    assert (await target.deliver(EVENT)).outcome == "delivered"
    await target.aclose()

    assert (made.started, made.stopped) == (1, 1)
    assert made.sent[0] == (
        "wa",
        cloud_event(TRACED),
        b"messages/5",
        [("content-type", CONTENT_TYPE.encode()), ("traceparent", TRACE.encode())],
    )


async def test_brokers_that_are_away_fail_and_are_asked_anew() -> None:
    made = [Producer(KafkaConnectionError()), Producer(None, TimeoutError(), None)]
    target = Kafka(lambda: made.pop(0), topic="wa", timeout=5.0)
    first, second = made
    outcomes = [(await target.deliver(EVENT)).outcome for _ in range(3)]

    assert outcomes == ["failed", "failed", "delivered"]
    assert (first.stopped, second.started, second.stopped) == (1, 1, 0)


async def test_what_is_larger_than_the_brokers_take_is_hopeless() -> None:
    made = Producer(None, MessageSizeTooLargeError())
    delivery = await Kafka(lambda: made, topic="wa", timeout=5.0).deliver(EVENT)

    assert delivery.outcome == "hopeless"


async def test_the_real_producer_finds_no_broker_and_says_so() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{bound.getsockname()[1]}"
    target = Kafka(lambda: producer([nobody], Login(), timeout=2.0), topic="wa", timeout=2.0)
    delivery = await target.deliver(EVENT)

    assert delivery.outcome == "failed"
    assert "aiokafka" in sys.modules


def test_the_receiver_of_the_docs_knows_our_signature() -> None:
    page = (Path(__file__).parents[2] / "docs/events.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n", 1)[1].split("```", 1)[0], names)
    now = int(time.time())
    headers = {"webhook-id": "1", "webhook-timestamp": str(now)}
    headers["webhook-signature"] = sign(b"key", webhook_id="1", timestamp=now, body=b"{}")

    assert names["is_ours"](b"key", headers, b"{}")
    assert not names["is_ours"](b"another", headers, b"{}")
