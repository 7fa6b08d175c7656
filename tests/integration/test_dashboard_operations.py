"""The pages about jobs, buffers, agents, switches and figures, over a furnished database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.dashboard import Browser, dashboard_at, words
from tests.dashboard_rows import furnish


@pytest.fixture
async def browser(dsn: str) -> AsyncIterator[Browser]:
    async with dashboard_at(dsn, agents={"assistant": 100_000, "night": None}) as browser:
        await furnish(browser.outbox.pool)
        yield browser


async def value(browser: Browser, query: str) -> object:
    found: object = await browser.outbox.pool.fetchval(query)
    return found


async def test_jobs_say_when_they_run_and_how_it_went_and_run_by_hand(browser: Browser) -> None:
    page = words(await browser.get("/jobs"))
    assert "dlq-processor every 5 minutes in 3 min" in page
    assert "retention at 02:00 every day (UTC) in 9 h" in page
    assert "never ran" in page
    assert "failed 1, processed 4, successful 3" in page
    assert "DatabaseUnreachable: the database is away" in page

    await browser.post("/jobs/retention/run")
    assert "Asked for: 1." in words(await browser.follow())
    assert (
        await value(browser, "select job_name from waemitter.job_runs where status = 'starting'")
        == "retention"
    )
    await browser.post("/jobs/retention/disable")
    assert "retention at 02:00 every day (UTC) disabled" in words(await browser.follow())
    await browser.post("/jobs/retention/enable")
    assert "disabled" not in words(await browser.follow())
    await browser.post("/jobs/nothing/run")
    assert browser.status == 404


async def test_buffers_say_when_they_close_and_are_closed_or_tried_again_by_hand(
    browser: Browser,
) -> None:
    page = await browser.get("/buffers?status=open")
    assert "data-until=" in page
    assert "open 3" in words(page)
    number = await value(browser, "select id from waemitter.message_buffer where status = 'open'")
    await browser.post(f"/buffers/{number}/close")
    assert "Closed: 1." in words(await browser.follow())
    due = "select closes_at <= clock_timestamp() from waemitter.message_buffer where id = "
    assert await value(browser, f"{due}{number}")
    await browser.post(f"/buffers/{number}/close")
    assert "Nothing was in a state that allows it." in words(await browser.follow())

    assert "the service answered 503" in words(await browser.get("/buffers?status=failed"))
    failed = await value(browser, "select id from waemitter.message_buffer where status = 'failed'")
    await browser.post(f"/buffers/{failed}/again")
    assert "To be tried again: 1." in words(await browser.follow())
    job = "select status from waemitter.buffer_processing_jobs where buffer_id = "
    assert await value(browser, f"{job}{failed}") == "scheduled"


async def test_buffers_that_wait_by_an_operator_s_word_say_so(browser: Browser) -> None:
    assert "fill and wait" not in await browser.get("/buffers")
    await browser.post("/flags/buffer_processing", to="off")
    assert "fill and wait" in await browser.get("/buffers")


async def test_agents_say_what_they_used_and_why_they_had_no_answer(browser: Browser) -> None:
    page = words(await browser.get("/agents"))
    assert "Tokens today 91 240 of 100 000" in page
    assert "small 108 89 %" in page
    assert "rate_limited: the endpoint answered 429" in page
    assert "night the last 24 hours Tokens today 0, without a limit" in page


async def test_a_house_without_agents_says_how_to_have_one(dsn: str) -> None:
    async with dashboard_at(dsn) as browser:
        assert "There is no agent." in words(await browser.get("/agents"))


async def test_figures_are_added_up_by_the_hour_the_route_and_the_agent(browser: Browser) -> None:
    assert "Hour Conversations Turns" in words(await browser.get("/analytics"))
    routes = words(await browser.get("/analytics?by=route"))
    assert "rides 14 14 93 % 7 %" in routes
    agents = words(await browser.get("/analytics?by=agent"))
    assert "assistant 120 90 % 4 % 1.7 s 2.8 s" in agents
    await browser.get("/analytics?by=moon")
    assert browser.status == 400


async def test_a_switch_is_for_a_share_of_the_contacts(browser: Browser) -> None:
    await browser.get("/flags")
    await browser.post("/flags/message_buffering", to="on", percent="25")
    assert "25 %" in words(await browser.follow())
    await browser.post("/flags/message_buffering", to="on", percent="101")
    assert browser.status == 400
    await browser.post("/flags/nothing", to="on")
    assert browser.status == 404
    assert "message_buffering on 25 %" in words(await browser.get("/audit"))


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (200, "answered with 200 and journalled"),
        (401, "was answered with 401"),
        (0, "cannot be reached"),
        (None, "set WHATSAPP_APP_SECRET"),
    ],
)
async def test_a_webhook_is_sent_to_ourselves(dsn: str, status: int | None, told: str) -> None:
    async def knock() -> int | None:
        return status

    async with dashboard_at(dsn, knock=knock) as browser:
        await browser.get("/webhooks")
        page = await browser.post("/webhooks/test")
        assert told in words(page if status is None else await browser.follow())


async def test_an_action_is_seen_at_once(browser: Browser) -> None:
    await browser.get("/flags")
    await browser.post("/flags/message_buffering", to="off")
    await browser.get("/flags")
    await browser.post("/flags/message_buffering", to="on")
    assert "message_buffering on" in words(await browser.get("/flags"))
