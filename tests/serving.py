import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.observing import Observed, observing
from waemitter.observe.events import Events
from waemitter.web.api.serving import Api
from waemitter.web.app import Parts, build_app, serve
from waemitter.web.auth import Authenticator, Key
from waemitter.web.chatwoot import ChatwootReceiver
from waemitter.web.dashboard.site import Dashboard
from waemitter.web.health import Component, Health
from waemitter.web.webhooks import Journal, WebhookReceiver
from waemitter.whatsapp.signature import sign

SECRET = "the app's secret"
VERIFY_TOKEN = "typed into the dashboard"


def signed_post(body: bytes) -> bytes:
    """A whole webhook as it goes over the wire."""
    head = (
        "POST /webhooks/whatsapp HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        f"X-Hub-Signature-256: {sign(SECRET, body)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass
class MemoryJournal:
    """Keeps what it is given, once `open` is set; raises `failure` instead when there is one."""

    entries: list[tuple[str, bytes, Mapping[str, str]]] = field(default_factory=list)
    failure: Exception | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    async def record(self, *, source: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.asked.set()
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        self.entries.append((source, body, headers))

    def enter(
        self,
        *,
        source: str,
        body: bytes,
        headers: Mapping[str, str],
        told: Callable[[BaseException | None], None],
    ) -> None:
        recording = asyncio.ensure_future(self.record(source=source, body=body, headers=headers))
        recording.add_done_callback(lambda done: told(done.exception()))


@dataclass
class MemoryRing:
    """Gives the keys it has, or raises `failure`; remembers which were said to be used."""

    keys: list[Key] = field(default_factory=list)
    failure: Exception | None = None
    asked: int = 0
    used: list[int] = field(default_factory=list)

    async def active(self, used: Sequence[int]) -> Sequence[Key]:
        self.asked += 1
        self.used += used
        if self.failure is not None:
            raise self.failure
        return list(self.keys)


class MemoryAudit:
    def __init__(self) -> None:
        self.entries: list[dict[str, str | None]] = []

    async def record(self, **entry: str | None) -> None:
        self.entries.append(entry)


def authenticator(
    fixed: Mapping[str, Sequence[str]] | None = None,
    *,
    ring: MemoryRing | None = None,
    rate: float = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Authenticator:
    return Authenticator(fixed=fixed or {}, ring=ring or MemoryRing(), rate=rate, clock=clock)


@dataclass(frozen=True)
class Site:
    url: str
    journal: MemoryJournal
    observed: Observed
    client: aiohttp.ClientSession

    def requests(self, result: str) -> float | None:
        return self.observed.value("webhook_requests_total", source="whatsapp", result=result)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return await asyncio.open_connection(host, int(port))


@asynccontextmanager
async def serving(  # noqa: PLR0913 each test turns one of them
    *,
    app_secrets: Sequence[str] = (SECRET,),
    verify_tokens: Sequence[str] = (VERIFY_TOKEN,),
    probes: Sequence[Callable[[], Component]] = (),
    stopping: Callable[[], bool] = lambda: False,
    read_timeout: float = 10,
    keepalive_timeout: float = 75,
    api: Api | None = None,
    dashboard: Dashboard | None = None,
    public: bool = True,
    internal: bool = True,
    most_arriving: int = 64 << 20,
    most_connections: int = 2000,
    desk: Callable[[Journal, Events], ChatwootReceiver] | None = None,
) -> AsyncIterator[Site]:
    """A server on a port of its own, with a journal in memory; `desk` makes what hears Chatwoot."""
    with observing() as observed:
        journal = MemoryJournal()
        receiver = WebhookReceiver(
            app_secrets=app_secrets,
            verify_tokens=verify_tokens,
            journal=journal,
            events=observed.events,
            read_timeout=read_timeout,
            most_arriving=most_arriving,
        )
        parts = Parts(
            webhooks=receiver,
            health=Health(version="1.2.3", stopping=stopping, probes=probes),
            metrics=observed.metrics,
            api=api or Api((), auth=authenticator(), audit=MemoryAudit()),
            events=observed.events,
            dashboard=dashboard,
            chatwoot=desk(journal, observed.events) if desk is not None else None,
        )
        app = build_app(parts, public=public, internal=internal)
        async with (
            serve(
                app,
                host="127.0.0.1",
                port=0,
                keepalive_timeout=keepalive_timeout,
                most_connections=most_connections,
            ) as url,
            aiohttp.ClientSession(base_url=url) as client,
        ):
            yield Site(url, journal, observed, client)
