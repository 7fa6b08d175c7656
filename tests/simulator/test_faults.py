import asyncio

import aiohttp
import pytest

from waemitter.simulator.faults import Fault, error_code_at, fault_at, probabilities
from waemitter.simulator.options import Options
from waemitter.simulator.world import World

USER = "+15550101201"


@pytest.mark.parametrize(
    ("roll", "fault"),
    [
        (0.0, Fault.DROP_BEFORE),
        (0.19, Fault.DROP_BEFORE),
        (0.2, Fault.HANG_AFTER),
        (0.49, Fault.HANG_AFTER),
        (0.5, None),
        (0.99, None),
    ],
)
def test_one_roll_decides_the_fault(roll, fault):
    shares = probabilities(Options(drop_before=0.2, hang_after=0.3))
    assert fault_at(roll, shares) is fault


def test_one_roll_decides_the_error():
    mix = {131000: 0.1, 131026: 0.1}
    assert [error_code_at(roll, mix) for roll in (0.05, 0.15, 0.25)] == [131000, 131026, None]


@pytest.mark.parametrize(
    ("fault", "accepted"), [("drop_before", 0), ("drop_after", 1), ("cut_reply", 1)]
)
async def test_a_broken_connection_tells_nothing_of_acceptance(client, meta, fault, accepted):
    meta.configure(**{fault: 1.0})
    with pytest.raises(aiohttp.ClientError):
        await client.text(USER)
    report = meta.ledger.report()
    assert report["accepted"] == accepted
    # A connection that breaks before an answer may be tried again by the client itself.
    assert report["faults"][fault] >= 1


@pytest.mark.parametrize(("fault", "accepted"), [("hang_before", 0), ("hang_after", 1)])
async def test_a_request_that_hangs_ends_with_the_senders_patience(client, meta, fault, accepted):
    meta.configure(**{fault: 1.0})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await client.text(USER)
    report = meta.ledger.report()
    assert report["faults"] == {fault: 1}
    assert report["accepted"] == accepted


@pytest.mark.parametrize(("fault", "accepted"), [("html_5xx", 0), ("html_5xx_after", 1)])
async def test_a_gateway_answers_in_html(client, meta, fault, accepted):
    meta.configure(**{fault: 1.0})
    status, body = await client.text(USER)
    assert status == 502
    assert b"<html>" in body
    assert len(meta.ledger) == accepted


async def test_a_seed_repeats_the_faults():
    def rolls(seed):
        return [World(Options(seed=seed)).random.random() for _ in range(3)]

    assert rolls(1) == rolls(1)
    assert rolls(1) != rolls(2)
