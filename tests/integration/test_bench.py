"""That the bench measures what it says; never how fast it is here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from typer.testing import CliRunner

from waemitter.cli.main import app
from waemitter.errors import UsageError
from waemitter.ops.bench.bars import bar
from waemitter.ops.bench.chart import chart
from waemitter.ops.bench.cloud import BenchFailed, SinkCloud
from waemitter.ops.bench.plan import Plan
from waemitter.ops.bench.samples import percentile, spread
from waemitter.ops.bench.scale.backlog import backlog
from waemitter.ops.bench.scale.finished import finished
from waemitter.ops.bench.scale.snapshot import snapshot
from waemitter.ops.bench.scale.soak import soak
from waemitter.ops.bench.sink import Sink, peak_per_second, serve
from waemitter.ops.bench.site import site
from waemitter.ops.bench.suite import GROUPS, run_suite
from waemitter.whatsapp.client import GraphClient, open_session
from waemitter.whatsapp.errors import Accepted, classify

TINY = Plan(
    runs=1,
    messages=50,
    pickups=3,
    idle=0.1,
    paced=0.5,
    together=((80.0, 2),),
    troubles=("paused",),
    inserting=1,
    clients=(1,),
    latencies=(0.0,),
    steady=0.5,
    rows=2000,
    lane=200,
    hearing=0.1,
    webhooks=90,
    statuses=90,
    peers=("pgqueuer, by an expert", "procrastinate"),
    listed=200,
    queued=500,
    holding=0.5,
    turns=6,
    model_latency=0.1,
    viewers=3,
    viewing=0.3,
    looks=2,
    apart=0.05,
    conversations=6,
)


@asynccontextmanager
async def sink_cloud(*, latency: float = 0.0) -> AsyncIterator[SinkCloud]:
    async with await serve(Sink(latency=latency)) as server, aiohttp.ClientSession() as session:
        port = server.sockets[0].getsockname()[1]
        yield SinkCloud(f"http://127.0.0.1:{port}", session)


@asynccontextmanager
async def graph_client(cloud: SinkCloud) -> AsyncIterator[GraphClient]:
    async with open_session(connections=8) as session:
        yield GraphClient(
            session,
            base_url=cloud.graph_url,
            phone_number_id="1",
            access_token="t",
            total_timeout=5,
            connect_timeout=5,
        )


def body(to: str) -> bytes:
    return json.dumps({"to": to, "type": "text", "text": {"body": "été"}}).encode()


async def test_the_sink_counts_requests_and_recipients():
    async with sink_cloud() as cloud, graph_client(cloud) as client:
        for to in ("+14155550001", "14155550001", "14155550002"):
            await client.send(body(to))
        report = await cloud.report()
        assert (report.posts, report.distinct, report.peak_per_second) == (3, 2, 3)
        assert list(await cloud.arrivals()) == ["14155550002", "14155550001"]
        await cloud.reset()
        assert (await cloud.report()).posts == 0


async def test_the_sink_accepts_as_meta_does_each_with_a_wamid_of_its_own():
    async with sink_cloud() as cloud, graph_client(cloud) as client:
        answers = [classify(await client.send(body("14155550001"))) for _ in range(3)]
        assert all(isinstance(answer, Accepted) for answer in answers)
        assert len({answer.wamid for answer in answers if isinstance(answer, Accepted)}) == 3


async def test_every_answer_of_a_slow_sink_comes_after_its_latency():
    async with sink_cloud(latency=0.1) as cloud, graph_client(cloud) as client:
        loop = asyncio.get_running_loop()

        async def took(n: int) -> float:
            await asyncio.sleep(n * 0.01)
            began = loop.time()
            assert isinstance(classify(await client.send(body(f"1415555000{n}"))), Accepted)
            return loop.time() - began

        assert min(await asyncio.gather(*map(took, range(6)))) > 0.095


async def test_the_sink_reads_requests_however_they_are_cut():
    request = b"POST /v24.0/1/messages HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (
        len(body("1")),
        body("1"),
    )
    async with sink_cloud() as cloud:
        host, _, port = cloud.address.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for part in (request[:10], request[10:70], request[70:] + request + request[:-1]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        await cloud.wait(2, within=5)
        assert (await cloud.report()).posts == 2
        writer.write(request[-1:])
        await cloud.wait(3, within=5)
        assert (await reader.read(8)) == b"HTTP/1.1"
        writer.close()
        await writer.wait_closed()


async def test_what_never_arrives_is_a_failure():
    async with sink_cloud() as cloud:
        with pytest.raises(BenchFailed, match="0 of 1"):
            await cloud.wait(1, within=0.05)


@pytest.mark.parametrize(
    ("times", "peak"),
    [([], 0), ([5.0], 1), ([0.0, 0.5, 1.0], 2), ([0.9, 1.1, 1.0, 3.0], 3), ([2.0, 0.0, 1.0], 1)],
)
def test_a_sliding_second_holds_what_is_less_than_a_second_apart(times: list[float], peak: int):
    assert peak_per_second(times) == peak


def test_percentiles_are_samples():
    samples = [float(n) for n in range(100, 0, -1)]
    assert percentile(samples, 0.5) == 50
    assert percentile(samples, 0.99) == 99
    assert percentile([7.0], 0.99) == 7


def test_a_bar_is_met_by_the_median():
    assert spread([3, 1, 2]) == (2, 1, 3)
    assert bar("latency", "ms", [1, 2, 9], at_most=2).met
    assert not bar("rate", "a second", [9, 1, 2], at_least=3).met
    assert bar("told", "", [1]).met is None


def test_the_command_sends_all_and_tells_what_it_took():
    result = CliRunner().invoke(app, ["bench", "--messages", "30", "--rate", "300", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["messages"], told["lost"], told["doubled"]) == (30, 0, 0)
    assert 0 < told["p50_ms"] <= told["p99_ms"]


@pytest.mark.timeout(300)  # a dozen daemons start one after the other
async def test_the_suite_measures_every_bar_and_is_drawn():
    told: list[str] = []
    report = (await run_suite(TINY, told.append)).plain()
    runs = report["runs"]
    assert all(any(bar["name"] in line for line in told) for bar in report["bars"])
    assert set(runs) == {make().name for make in GROUPS}
    drained = runs["drain"]["0 ms"]
    assert all(run["lost"] == run["doubled"] == 0 for run in drained["daemon"])
    assert drained["bare"][0]["messages"] == TINY.messages
    assert set(drained["peers"]) == set(TINY.peers)
    measured = {bar["name"]: bar["median"] for bar in report["bars"]}
    assert measured["drain, 0 ms: statements"] > 0
    assert measured["INSERT, 1 client: with triggers"] > 0
    [heard], [most] = runs["webhooks"]["heard"], runs["webhooks"]["ceilings"]
    assert (heard["webhooks"], heard["refused"], heard["missing"]) == (100, 0, 0)
    assert min(most["daemon"], most["bare"], most["together"]) > 0
    assert runs["webhooks"]["applied"][0]["wrong"] == 0
    assert runs["bursts"]["talked"][0]["conversations"] == TINY.conversations
    assert runs["memory"]["held"][0]["connections"] > 0
    [talked], [viewed] = runs["turns"]["talked"], runs["dashboard"]["viewed"]
    assert (talked["turns"], talked["stray"]) == (6, 0)
    assert talked["p50_ms"] >= 100
    assert viewed["update_p50_ms"] > 0
    assert viewed["scrape_p99_ms"] > 0
    drawn = ET.fromstring(chart(json.loads(json.dumps(report))))
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"waemitter", "procrastinate", "the bare pipeline", "pickup p50"} < set(words)


async def test_a_group_that_there_is_not_is_named():
    with pytest.raises(UsageError, match=r"no group 'drian' of bars: limits, drain"):
        await run_suite(Plan(only=("drian",)), lambda _: None)


async def test_the_long_programs_tell_what_size_and_time_show():
    async with site(logged=False) as on:
        drained = await backlog(on, 200)
        beside = await finished(on, 2000)
        held = await snapshot(on, rate=100, seconds=0.5)
        soaked = await soak(on, rate=50, seconds=0.5)
    assert (drained.rows, drained.lost, drained.doubled) == (200, 0, 0)
    assert (beside.few.finished, beside.many.finished) == (20, 2000)
    assert min(asdict(beside.many).values()) > 0
    assert min(phase.messages for phase in (held.before, held.held, held.after)) > 0
    assert held.at_last.table > held.at_first.table
    assert (soaked.lost, soaked.doubled) == (0, 0)
    assert len(soaked.sizes) == len(soaked.resident_mb) > 1


def test_what_goes_beyond_its_bar_is_drawn_beyond_the_line():
    bars = [bar("fast", "ms", [1.0], at_most=2), bar("slow", "ms", [9.0], at_most=3)]
    report = {
        "machine": {"processors": 2, "architecture": "x86_64", "python": "3.11"},
        "plan": {"runs": 1},
        "bars": [{"group": "limits"} | each.plain() for each in bars],
    }
    drawn = ET.fromstring(chart(report))
    strips = drawn.findall("{http://www.w3.org/2000/svg}rect")
    line = drawn.find("{http://www.w3.org/2000/svg}line")
    assert line is not None
    ends = [float(strip.attrib["x"]) + float(strip.attrib["width"]) for strip in strips]
    assert ends[0] < float(line.attrib["x1"]) < ends[1]
    assert [strip.attrib["class"] for strip in strips] == ["good", "bad"]
