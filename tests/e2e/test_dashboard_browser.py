"""The dashboard in a real browser: every page on a screen and on a phone, in the light and in the dark, and by the keyboard.

DASHBOARD_PICTURES=docs has the pictures of the documentation made anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import sin
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import Tab, chromium
from tests.dashboard import ADMIN, KEYS, Browser, dashboard_at
from tests.dashboard_rows import furnish
from tests.support import eventually, scratch
from waemitter.errors import DatabaseUnreachable
from waemitter.runtime.supervise import Stop
from waemitter.web.dashboard.pulse import Sample
from waemitter.web.dashboard.store import DashboardStore

pytestmark = pytest.mark.tool("chromium", package="chromium")

PAGES = (
    *(
        "",
        "/outbox",
        "/outbox/1?show=1",
        "/outbox/batch?verb=retry&status=failed",
        "/campaigns",
        "/campaigns/1",
    ),
    *(
        "/channels",
        "/conversations",
        "/conversations/2?show=1",
        "/buffers",
        "/agents",
        "/letters",
        "/letters/1",
    ),
    *(
        "/webhooks",
        "/webhooks/1?show=1",
        "/jobs",
        "/analytics",
        "/analytics?by=route",
        "/flags",
        "/audit",
    ),
    *("/outbox?status=failed&code=1", "/login", "/outbox/999"),
)
SCREENS = ((1280, PAGES), (390, PAGES), (320, ("", "/outbox")))
# What a reader's program needs: names for what is operated, one heading, headed columns, a language.
BARRIERS = """
  [...document.querySelectorAll("input:not([type=hidden]), select, textarea")]
    .filter((e) => !e.labels.length && !e.ariaLabel).map((e) => "no label: " + e.outerHTML)
  .concat([...document.querySelectorAll("a, button")].filter((e) => !e.innerText.trim() && !e.ariaLabel)
    .map((e) => "no name: " + e.outerHTML))
  .concat([...document.querySelectorAll("img")].filter((e) => e.getAttribute("alt") === null).map((e) => "no alt: " + e.src))
  .concat([...document.querySelectorAll("svg")].filter((e) => e.getAttribute("role") !== "img" || !e.getAttribute("aria-label"))
    .map((e) => "an unnamed picture: " + e.outerHTML.slice(0, 80)))
  .concat([...document.querySelectorAll("thead th")].filter((e) => e.scope !== "col").map((e) => "no scope: " + e.outerHTML))
  .concat(document.querySelectorAll("h1").length === 1 ? [] : ["not one h1"])
  .concat(document.documentElement.lang === "en" ? [] : ["no language"])
"""
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@asynccontextmanager
async def furnished(dsn: str, *, keys: bool = False) -> AsyncIterator[tuple[Browser, Tab]]:
    async with dashboard_at(
        dsn, keys=KEYS if keys else None, agents={"assistant": 100_000}
    ) as house:
        await furnish(house.outbox.pool)
        counters(house)
        stop = Stop(grace=5)
        pulse = asyncio.ensure_future(house.pulse.run(stop))
        try:
            with scratch() as directory:
                async with chromium(directory) as tab:
                    yield house, tab
        finally:
            stop.request()
            await pulse


def counters(house: Browser) -> None:
    """What a daemon that has been at work for a while has in its memory."""
    metrics = house.metrics
    metrics.listener_connected.labels().set(1)
    metrics.outbox_messages.labels("default", "queued").set(1638)
    metrics.outbox_messages.labels("default", "sending").set(12)
    metrics.outbox_oldest_due_age.labels("default").set(0.4)
    metrics.outbox_sends.labels("default", "sent").inc(48_211)
    metrics.outbox_sends.labels("default", "failed").inc(42)
    metrics.status_updates.labels("delivered", "applied").inc(47_803)
    metrics.dead_letters.labels("outbound", "abandoned").set(5)
    for n in range(170):
        sent = 62 + 9 * sin(n / 9) + 5 * sin(n / 2.3) if n > 20 else 3 * n
        house.pulse.samples.append(Sample(sent, 0.4 if n % 29 == 0 else 0.0))


def address(house: Browser, page: str) -> str:
    return f"{house.site.url}/dashboard{page}"


@pytest.mark.slow
async def test_every_page_is_fit_for_screens_phones_and_readers(dsn: str) -> None:
    async with furnished(dsn) as (house, tab):
        for width, pages in SCREENS:
            await tab.look(width=width, height=900, scheme="light")
            for page in pages:
                await tab.go(address(house, page))
                assert await tab.ask(BARRIERS) == [], page
                assert await tab.ask(TOO_WIDE) == 0, (page, width)
        assert [each for each in tab.complaints if "404" not in each] == []


async def test_the_browser_s_console_tells_of_what_the_policy_forbids(dsn: str) -> None:
    async with furnished(dsn) as (house, tab):
        await tab.go(address(house, ""))
        await tab.ask("document.body.setAttribute('style', 'color: red')")
        await eventually(lambda: any("Content Security Policy" in each for each in tab.complaints))


async def test_a_change_is_drawn_without_a_reload(dsn: str) -> None:
    async with furnished(dsn) as (house, tab):
        await tab.go(address(house, "/channels"))
        await eventually(lambda: live(tab))
        await tab.ask("window.mine = 'still here'")
        await house.outbox.pool.execute(
            "update waemitter.channels set quality = 'RED' where name = 'default'"
        )
        house.pulse.notified("waemitter_dashboard", own=False)
        await eventually(lambda: tab.ask("document.body.innerText.includes('RED')"))
        assert await tab.ask("window.mine") == "still here"
        assert tab.complaints == []


async def live(tab: Tab) -> Any:
    return await tab.ask("document.getElementById('lamp').dataset.state === 'live'")


async def test_what_has_an_end_counts_down(dsn: str) -> None:
    async with furnished(dsn) as (house, tab):
        await tab.go(address(house, "/buffers?status=open"))
        left = "document.querySelector('[data-until]').textContent"
        first = await tab.ask(left)
        assert first.startswith("in 0:0")

        async def later() -> Any:
            return await tab.ask(left) != first

        await eventually(later)


async def test_all_is_done_by_the_keyboard(dsn: str) -> None:
    async with furnished(dsn, keys=True) as (house, tab):
        await tab.go(address(house, "/outbox/7"))  # which failed
        await tab.type(ADMIN)  # the login's field has the focus
        await tab.press("Enter")
        await tab.loaded()
        assert await tab.ask("document.querySelector('h1').innerText") == "Message 7 failed"

        await tab.press("Tab")
        assert await tab.ask("document.activeElement.innerText") == "Skip to the content"
        await tab.press("Enter")
        await eventually(lambda: tab.ask("document.activeElement.id === 'content'"))
        await tab.press("Tab")
        assert await tab.ask("document.activeElement.innerText") == "Retry"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await tab.ask(outline) == "solid"
        await tab.press("Enter")
        await tab.loaded()
        assert "Queued again: 1." in await tab.ask("document.querySelector('main').innerText")
        assert (await house.outbox.row(7))["status"] == "queued"
        assert tab.complaints == []


async def test_a_database_that_is_away_leaves_a_page_that_comes_back_by_itself(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnreachable("gone")

    async with furnished(dsn) as (house, tab):
        with monkeypatch.context() as patch:
            patch.setattr(DashboardStore, "_all", away)
            await tab.go(address(house, ""))
            assert "does not answer" in await tab.ask(
                "document.querySelector('[role=alert]').innerText"
            )
            await tab.go(address(house, "/channels"))
            assert "Messages wait in it" in await tab.ask("document.body.innerText")
            assert await tab.ask("document.body.dataset.retry") == "5000"
            await tab.ask("document.body.dataset.retry = 0")
        await tab.ask("setTimeout(() => location.reload(), Number(document.body.dataset.retry)); 0")
        await tab.loaded()
        assert await tab.ask("document.querySelector('h1').innerText") == "Channels"


PICTURES = (
    ("dashboard.png", "", "light", 1280, 900),
    ("dashboard-dark.png", "/conversations/2?show=1", "dark", 1280, 640),
    ("dashboard-agents.png", "/agents", "light", 1280, 760),
    ("dashboard-phone.png", "", "dark", 390, 844),
)


@pytest.mark.skipif("DASHBOARD_PICTURES" not in os.environ, reason="makes pictures, when asked to")
async def test_pictures_for_the_documentation(dsn: str) -> None:
    into = Path(os.environ["DASHBOARD_PICTURES"])
    async with furnished(dsn) as (house, tab):
        for name, page, scheme, width, height in PICTURES:
            await tab.look(width=width, height=height, scheme=scheme)
            await tab.go(address(house, page))
            await eventually(lambda: live(tab))
            picture = await tab.picture()
            await asyncio.to_thread((into / name).write_bytes, picture)
