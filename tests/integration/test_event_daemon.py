"""What a daemon does with the [events.*] of its settings."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import nats
import orjson
import pytest

from tests.integration.test_event_targets import nats_server
from tests.receiving_events import SECRET, receiver
from tests.support import eventually
from tests.whole import ENQUEUE, whole_daemon
from waemitter.daemon import event_stream
from waemitter.errors import UsageError

ZERO = datetime.timedelta()


async def test_a_receiver_that_failed_gets_the_event_again(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [503, 204]
    config = tmp_path / "waemitter.toml"
    monkeypatch.setattr("waemitter.jobs.event_stream.delivery.FIRST_DELAY", 0.01)
    async with receiver(lambda _: answers.pop(0)) as received:
        config.write_text(
            f'[events.shop]\ntypes = ["message.sent"]\nwebhook = "{received.url}"\nsecret_file = "secret"\n'
        )
        (tmp_path / "secret").write_text(SECRET)
        async with whole_daemon(dsn, monkeypatch, config=config) as daemon:
            await daemon.admin.execute(ENQUEUE, 1, "", ZERO)
            await eventually(lambda: received.taken)
            known = (
                "select count(*) from waemitter.event_subscriptions where types = '{message.sent}'"
            )
            assert await daemon.value(known) == 1

    assert [event["id"] for _, event in received.seen] == [received.taken[0]["id"]] * 2


@pytest.mark.tool("nats-server", package="nats-server")
async def test_a_stream_of_nats_has_what_was_sent(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "waemitter.toml"
    async with nats_server(tmp_path / "nats") as url:
        client = await nats.connect(url)
        stream = client.jetstream()
        await stream.add_stream(name="wa", subjects=["wa.>"])
        heard = await stream.subscribe("wa.message.*", durable="test")
        config.write_text(f'[events.bus]\ntypes = ["message.*"]\nnats = "{url}"\nsubject = "wa"\n')
        async with whole_daemon(dsn, monkeypatch, config=config) as daemon:
            await daemon.admin.execute(ENQUEUE, 20, "", ZERO)
            told = [orjson.loads((await heard.next_msg(timeout=30)).data) for _ in range(20)]
        await client.close()

    assert {event["type"] for event in told} == {"message.sent"}
    assert len({event["subject"] for event in told}) == 20


def test_an_extra_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    monkeypatch.delitem(sys.modules, "waemitter.jobs.event_stream.targets.kafka", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'waemitter\[kafka\]'"):
        event_stream._extra("kafka")
