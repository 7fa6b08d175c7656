"""The dashboard without a browser: who may see it, and what its pages say and do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.dashboard import ADMIN, KEYS, READ, Browser, dashboard_at, words
from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.supervise import Stop
from waemitter.web.dashboard.store import DashboardStore

ADD = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, status, available_at, error_code, error_message,
                                           failed_at)
    values ($1, 'text', '{"text": {"body": "<b>a secret</b>"}}', $2, case when $2 = 'queued' then clock_timestamp() end,
            $3, $4, case when $2 = 'failed' then clock_timestamp() end)
    returning id
"""


PAGES = (
    *("", "/outbox", "/campaigns", "/channels", "/conversations", "/letters", "/webhooks"),
    *("/analytics", "/flags", "/audit", "/buffers", "/agents", "/jobs"),
)


@pytest.fixture
async def browser(dsn: str) -> AsyncIterator[Browser]:
    async with dashboard_at(dsn) as browser:
        yield browser


@pytest.fixture
async def guarded(dsn: str) -> AsyncIterator[Browser]:
    async with dashboard_at(dsn, keys=KEYS) as browser:
        yield browser


async def add(
    browser: Browser, status: str = "queued", code: int | None = None, error: str | None = None
) -> int:
    found: int = await browser.outbox.pool.fetchval(ADD, "+14155550123", status, code, error)
    return found


async def test_without_any_key_this_machine_alone_is_served(browser: Browser) -> None:
    assert "Overview" in words(await browser.get())
    browser.headers["X-Forwarded-For"] = "203.0.113.9"
    await browser.get()
    assert (browser.status, browser.location) == (303, "/dashboard/login?next=%2Fdashboard")


async def test_a_key_logs_in_and_out(guarded: Browser) -> None:
    await guarded.get("/outbox?status=failed")
    assert guarded.location == "/dashboard/login?next=%2Fdashboard%2Foutbox%3Fstatus%3Dfailed"
    await guarded.follow()
    await guarded.post("/login", key=READ, next="/dashboard/outbox?status=failed")
    assert (guarded.status, guarded.location) == (303, "/dashboard/outbox?status=failed")
    cookie = guarded.attributes["waemitter_key"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "Outbox" in words(await guarded.follow())
    await guarded.post("/logout")
    await guarded.get()
    assert guarded.status == 303


@pytest.mark.parametrize(("key", "status"), [("wrong", 401), ("a-key-that-may-send", 403)])
async def test_a_key_that_will_not_do_is_told_why(guarded: Browser, key: str, status: int) -> None:
    page = await guarded.log_in(key)
    assert guarded.status == status
    assert "This" in words(page)
    assert "waemitter_key" not in guarded.cookies


@pytest.mark.parametrize("goal", ["https://evil.example", "//evil.example", "/dashboard\\evil", ""])
async def test_the_login_leads_nowhere_else(guarded: Browser, goal: str) -> None:
    await guarded.get("/login")
    await guarded.post("/login", key=READ, next=goal)
    assert guarded.location == "/dashboard"


async def test_who_may_look_may_not_act(guarded: Browser) -> None:
    number = await add(guarded)
    await guarded.log_in(READ)
    page = await guarded.get(f"/outbox/{number}?show=1")
    assert "Cancel" not in words(page)
    assert "+14155550123" not in page
    await guarded.post(f"/outbox/{number}/cancel")
    assert guarded.status == 403
    assert (await guarded.outbox.row(number))["status"] == "queued"


async def test_a_dashboard_may_be_read_only_for_all(dsn: str) -> None:
    async with dashboard_at(dsn, keys=KEYS, read_only=True) as browser:
        await browser.log_in(ADMIN)
        assert "read-only" in words(await browser.get("/channels"))
        await browser.post("/channels/default/pause")
        assert browser.status == 403


async def test_a_form_of_somebody_else_is_refused(guarded: Browser) -> None:
    number = await add(guarded)
    await guarded.log_in(ADMIN)
    await guarded.post(f"/outbox/{number}/cancel", token="guessed")
    assert guarded.status == 403
    guarded.headers["Sec-Fetch-Site"] = "cross-site"
    await guarded.post(f"/outbox/{number}/cancel")
    assert guarded.status == 403
    guarded.headers = {"Origin": "https://evil.example"}
    await guarded.post(f"/outbox/{number}/cancel")
    assert guarded.status == 403
    assert (await guarded.outbox.row(number))["status"] == "queued"


async def test_every_page_forbids_scripts_that_are_not_its_own(browser: Browser) -> None:
    for path in (*PAGES, "/login", "/outbox/999"):
        page = await browser.get(path)
        policy = browser.answered["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert " style=" not in page
        assert " onclick=" not in page
        assert "<style" not in page


@pytest.mark.parametrize("name", ["style.css", "htmx.min.js", "live.js", "icon.svg"])
async def test_the_files_of_the_pages_are_served(guarded: Browser, name: str) -> None:
    await guarded.get(f"/static/{name}")
    assert guarded.status == 200
    assert "max-age" in guarded.answered["Cache-Control"]


async def test_no_other_file_is(guarded: Browser) -> None:
    await guarded.get("/static/htmx.LICENSE.txt")
    assert guarded.status == 404


async def test_an_empty_outbox_says_what_to_do(browser: Browser) -> None:
    assert "The outbox is empty" in words(await browser.get("/outbox"))
    assert "No message matches" in words(await browser.get("/outbox?status=failed"))
    assert "None. All that was sent" in words(await browser.get())


async def test_messages_are_found_and_their_numbers_masked(browser: Browser) -> None:
    failed = await add(browser, "failed", 131026, "Message undeliverable <script>")
    queued = await add(browser)
    everything = await browser.get("/outbox")
    assert "+14•••••23" in everything
    assert "+14155550123" not in everything
    assert "<script>" not in everything.replace('<script src="', "")
    only = await browser.get("/outbox?status=failed&code=131026&channel=default")
    assert f"/dashboard/outbox/{failed}" in only
    assert f"/dashboard/outbox/{queued}" not in only
    assert f"/dashboard/outbox/{queued}" in await browser.get("/outbox?q=%2B1-415-555-0123")
    assert f"Message {queued}" in await browser.get(f"/outbox?q={queued}")


@pytest.mark.parametrize(
    "query", ["status=lost", "code=x", "campaign=-1", "code=99999999999", "before=1e9", "q=%00"]
)
async def test_a_filter_that_makes_no_sense_is_no_error_of_ours(
    browser: Browser, query: str
) -> None:
    await browser.get(f"/outbox?{query}")
    assert browser.status in {200, 400}


async def test_a_message_shows_its_content_to_who_asks_for_it(browser: Browser) -> None:
    number = await add(browser, "failed", 131026, "Message undeliverable")
    page = await browser.get(f"/outbox/{number}")
    assert "131026 Message undeliverable" in words(page)
    assert "secret" not in page
    shown = await browser.get(f"/outbox/{number}?show=1")
    assert "+14155550123" in shown
    assert "&lt;b&gt;a secret" in shown


async def test_a_message_that_is_not_there_is_a_404(browser: Browser) -> None:
    assert "There is no message 999." in words(await browser.get("/outbox/999"))
    assert browser.status == 404


async def test_a_message_is_retried_and_cancelled_and_the_audit_tells(browser: Browser) -> None:
    number = await add(browser, "failed")
    await browser.get()
    await browser.post(f"/outbox/{number}/retry")
    assert "Queued again: 1." in words(await browser.follow())
    assert browser.rings
    await browser.post(f"/outbox/{number}/cancel")
    assert "Cancelled: 1." in words(await browser.follow())
    told = await browser.outbox.pool.fetch(
        "select action, target, key_name from waemitter.audit_log order by id"
    )
    assert [tuple(row) for row in told] == [
        ("dashboard.retry", str(number), "loopback"),
        ("dashboard.cancel", str(number), "loopback"),
    ]


async def test_all_that_match_are_changed_after_a_question(browser: Browser) -> None:
    failed = [await add(browser, "failed", 131026) for _ in range(3)]
    other = await add(browser, "failed", 131047)
    question = words(await browser.get("/outbox/batch?verb=retry&status=failed&code=131026"))
    assert "Messages 3" in question
    await browser.post("/outbox/batch", verb="retry", status="failed", code="131026")
    assert "Queued again: 3." in words(await browser.follow())
    assert [(await browser.outbox.row(number))["status"] for number in failed] == ["queued"] * 3
    assert (await browser.outbox.row(other))["status"] == "failed"


async def test_a_batch_goes_on_beyond_one_statement(browser: Browser) -> None:
    await browser.outbox.pool.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload)"
        " select '+1415555' || n, 'text', '{}' from generate_series(1000, 2199) n"
    )
    await browser.get()
    await browser.post("/outbox/batch", verb="cancel", status="queued")
    assert "Cancelled: 1200." in words(await browser.follow())


async def test_a_channel_is_paused_and_resumed(browser: Browser) -> None:
    assert "sending" in words(await browser.get("/channels"))
    await browser.post("/channels/default/pause")
    assert "Paused: 1." in words(page := await browser.follow())
    assert "until it is resumed" in words(page)
    await browser.post("/channels/default/resume")
    assert "Resumed: 1." in words(await browser.follow())


async def test_the_overview_tells_what_was_counted_and_what_went_wrong(browser: Browser) -> None:
    browser.metrics.outbox_messages.labels("default", "queued").set(1234)
    browser.metrics.outbox_oldest_due_age.labels("default").set(90)
    await browser.outbox.pool.execute(
        "insert into waemitter.dead_letters (direction, stage, payload, error, error_code)"
        " values ('outbound', 'send', '{}', 'Message undeliverable', 131026)"
    )
    page = words(await browser.get())
    assert "Waiting 1 234" in page
    assert "Oldest due 90 s" in page
    assert "131026 Message undeliverable" in page


async def test_the_overview_stands_while_the_database_is_away(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnreachable("gone")

    browser.metrics.outbox_messages.labels("default", "queued").set(77)
    monkeypatch.setattr(DashboardStore, "_all", away)
    page = words(await browser.get())
    assert browser.status == 200
    assert "The database does not answer" in page
    assert "77" in page
    assert "database" in words(await browser.get("/outbox"))
    assert browser.status == 503


async def test_twenty_viewers_cost_what_one_does(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken: list[str] = []
    fetch = DashboardStore._all

    async def overheard(store: DashboardStore, statement: str, *arguments: object) -> Any:
        spoken.append(statement)
        return await fetch(store, statement, *arguments)

    monkeypatch.setattr(DashboardStore, "_all", overheard)
    await asyncio.gather(*(browser.get() for _ in range(20)))
    assert 3 <= len(spoken) <= 9


async def test_a_change_is_told_to_who_watches_and_a_stop_ends_it(browser: Browser) -> None:
    stop = Stop(grace=5)
    async with asyncio.TaskGroup() as group:
        group.create_task(browser.pulse.run(stop))
        async with browser.site.client.get("/dashboard/events") as stream:
            assert stream.content_type == "text/event-stream"
            await stream.content.readuntil(b"\n\n")
            browser.metrics.outbox_sends.labels("default", "sent").inc()
            assert b"event: changed" in await stream.content.readuntil(b"\n\n")
            browser.pulse.notified("waemitter_outbox", own=False)
            assert b"event: changed" in await stream.content.readuntil(b"\n\n")
            stop.request()
            await stream.content.read()  # to its end


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_without_anything_to_show_says_so(browser: Browser, page: str) -> None:
    assert "<h1>" in await browser.get(page)
    assert browser.status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/campaigns/999", "/letters/999", "/webhooks/999", "/conversations/999"),
        *(
            "/letters?status=x",
            "/webhooks?state=x",
            "/conversations?status=x",
            "/campaigns?before=x",
        ),
    ],
)
async def test_what_is_not_there_is_told_in_words(browser: Browser, path: str) -> None:
    assert 'role="alert"' in await browser.get(path)
    assert browser.status in {400, 404}


async def test_a_campaign_is_steered_and_its_funnel_and_failures_shown(browser: Browser) -> None:
    number = await browser.outbox.pool.fetchval(
        "insert into waemitter.campaigns (name, status, total, sent, delivered, read, failed)"
        " values ('Autumn sale', 'running', 200, 150, 100, 50, 1) returning id"
    )
    failed = await add(browser, "failed", 131026, "Message undeliverable")
    await browser.outbox.pool.execute(
        "update waemitter.outbox_messages set campaign_id = $1 where id = $2", number, failed
    )
    assert "Autumn sale" in await browser.get("/campaigns")
    page = words(await browser.get(f"/campaigns/{number}"))
    assert "Delivered 100 50.0 %" in page
    assert "131026 Message undeliverable 1" in page
    await browser.post(f"/campaigns/{number}/pause")
    assert "Paused: 1." in words(await browser.follow())
    await browser.post(f"/campaigns/{number}/start")
    assert "Nothing was in a state that allows it." in words(await browser.follow())


async def test_a_dead_letter_is_redriven_and_discarded(browser: Browser) -> None:
    made = [
        await browser.outbox.pool.fetchval(
            "insert into waemitter.dead_letters (direction, stage, payload, error, contact)"
            " values ('inbound', 'handler', '{\"secret\": 1}', 'TimeoutError', '14155550123') returning id"
        )
        for _ in range(2)
    ]
    assert "TimeoutError" in await browser.get("/letters?status=pending&direction=inbound")
    page = await browser.get(f"/letters/{made[0]}")
    assert "14155550123" not in page
    assert "secret" not in page
    assert "secret" in await browser.get(f"/letters/{made[0]}?show=1")
    await browser.post(f"/letters/{made[0]}/redrive")
    assert "Put on its way again: 1." in words(await browser.follow())
    await browser.post(f"/letters/{made[1]}/discard")
    assert "discarded" in words(await browser.follow())


async def test_a_webhook_is_shown_and_replayed(browser: Browser) -> None:
    number = await browser.outbox.pool.fetchval(
        "insert into waemitter.webhook_logs (source, body, available_at, processed_at)"
        " values ('whatsapp', '{\"entry\": []}', null, clock_timestamp()) returning id"
    )
    assert "processed" in words(await browser.get("/webhooks?state=processed"))
    assert "entry" not in await browser.get(f"/webhooks/{number}")
    assert "entry" in await browser.get(f"/webhooks/{number}?show=1")
    await browser.post(f"/webhooks/{number}/replay")
    assert "Replayed: 1." in words(await browser.follow())
    assert f"/webhooks/{number}" in await browser.get("/webhooks?state=waiting")


async def test_a_conversation_is_taken_over_and_handed_back(browser: Browser) -> None:
    number = await browser.outbox.pool.fetchval(
        "with c as (insert into waemitter.contacts (channel, wa_id) values ('default', '14155550123') returning id)"
        " insert into waemitter.conversations (channel, contact_id, last_inbound_at)"
        " select 'default', id, now() from c returning id"
    )
    await browser.outbox.pool.execute(
        "insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload)"
        " values ($1, 'wamid.1', 'text', '{\"text\": {\"body\": \"Where is my order?\"}}')",
        number,
    )
    assert "closes in" in words(await browser.get("/conversations?status=idle"))
    assert "Where is my order?" not in await browser.get(f"/conversations/{number}")
    assert "Where is my order?" in await browser.get(f"/conversations/{number}?show=1")
    await browser.post(f"/conversations/{number}/takeover")
    assert "idle → human" in words(await browser.follow())
    await browser.post(f"/conversations/{number}/handback")
    assert "human → idle" in words(await browser.follow())


async def test_a_switch_is_turned_and_figures_and_audit_are_shown(browser: Browser) -> None:
    await browser.get("/flags")
    await browser.post("/flags/message_buffering", to="off")
    assert "Switched: 1." in words(await browser.follow())
    assert "dashboard.switch message_buffering off loopback" in words(await browser.get("/audit"))
    await browser.outbox.pool.execute(
        "insert into waemitter.service_metrics (hour, name, value) values (date_trunc('hour', now()), 'messages_sent', 7)"
    )
    assert "Sent 7 in two days" in words(await browser.get("/analytics"))
