"""The dashboard over a real outbox, as a browser without scripts sees it."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie

from prometheus_client import CollectorRegistry

from tests.outbox_rows import Outbox, outbox_at
from tests.serving import Site, authenticator, serving
from waemitter.daemon.dashboard import sections_of
from waemitter.observe.metrics import Metrics
from waemitter.web.dashboard.pulse import Pulse
from waemitter.web.dashboard.session import Sessions
from waemitter.web.dashboard.site import Dashboard
from waemitter.web.store import AuditStore

READ = "a-key-that-may-look"
ADMIN = "a-key-that-may-act"
KEYS = {READ: ["read"], ADMIN: ["admin"], "a-key-that-may-send": ["send"]}


@dataclass
class Browser:
    """Keeps cookies by hand, to look at them."""

    site: Site
    outbox: Outbox
    metrics: Metrics
    pulse: Pulse
    rings: list[int]
    cookies: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 0
    location: str = ""

    async def get(self, path: str = "") -> str:
        return await self._ask("GET", path)

    async def post(self, path: str, **form: str) -> str:
        return await self._ask("POST", path, {"token": self.token} | form)

    async def follow(self) -> str:
        return await self._ask("GET", self.location.removeprefix("/dashboard"))

    @property
    def token(self) -> str:
        return self.cookies.get("waemitter_csrf", "")

    async def log_in(self, key: str) -> str:
        await self.get("/login")
        return await self.post("/login", key=key)

    async def _ask(self, method: str, path: str, form: dict[str, str] | None = None) -> str:
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        async with self.site.client.request(
            method,
            f"/dashboard{path}",
            data=form,
            allow_redirects=False,
            headers=sent | self.headers,
        ) as answer:
            self.status, self.location = answer.status, answer.headers.get("Location", "")
            for line in answer.headers.getall("Set-Cookie", []):
                for name, morsel in SimpleCookie(line).items():
                    self.cookies[name] = morsel.value
                    self.attributes[name] = line
            self.answered = answer.headers
            return await answer.text()


def words(page: str) -> str:
    """What a page says, without its markup."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


async def nobody_knocks() -> int | None:
    return None


@asynccontextmanager
async def dashboard_at(
    dsn: str,
    *,
    keys: dict[str, list[str]] | None = None,
    read_only: bool = False,
    clock: Callable[[], float] = time.monotonic,
    knock: Callable[[], Awaitable[int | None]] = nobody_knocks,
    agents: Mapping[str, int | None] | None = None,
) -> AsyncIterator[Browser]:
    """Without `keys`, whoever asks from this machine may do everything."""
    async with outbox_at(dsn) as outbox:
        metrics, rings = Metrics(CollectorRegistry()), list[int]()
        metrics.for_channel("default")
        pulse = Pulse(metrics, clock=clock)
        dashboard = Dashboard(
            sections_of(
                outbox.pool,
                metrics,
                pulse,
                ring=lambda: rings.append(1),
                knock=knock,
                agents=agents or {},
            ),
            sessions=Sessions(authenticator(keys)),
            audit=AuditStore(outbox.pool),
            pulse=pulse,
            wall=lambda: datetime.datetime.now(datetime.UTC),
            read_only=read_only,
        )
        async with serving(dashboard=dashboard) as site:
            yield Browser(site, outbox, metrics, pulse, rings)
