"""Where the bench's messages arrive: the lean sink, or the whole simulator. Times are seconds since the epoch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import orjson

from waemitter.errors import WaemitterError

LOOK_EVERY: Final = 0.1  # seconds
PAGE: Final = 10_000


class BenchFailed(WaemitterError):
    """What was to be measured did not happen."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Requests so far, how many different recipients they were for, and the most in any sliding second.

    `first` and `last` are 0 before the first arrival.
    """

    posts: int
    distinct: int
    peak_per_second: int
    first: float
    last: float
    most_connections: int | None = None


class Cloud(Protocol):
    @property
    def graph_url(self) -> str: ...

    async def reset(self) -> None:
        """Forget what arrived."""
        ...

    async def wait(self, posts: int, *, within: float) -> None:
        """Until so many have arrived. Raises BenchFailed when they have not `within` seconds."""
        ...

    async def report(self) -> Arrived: ...

    async def arrivals(self) -> dict[str, float]:
        """When the first message to each recipient (a number without plus) arrived."""
        ...


@dataclass(frozen=True, slots=True)
class SinkCloud:
    address: str
    session: aiohttp.ClientSession

    @property
    def graph_url(self) -> str:
        return f"{self.address}/v24.0"

    async def reset(self) -> None:
        await self._ask("DELETE", "/")

    async def wait(self, posts: int, *, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self._ask("GET", f"/wait?posts={posts}")
        except TimeoutError:
            raise await _too_few(self, posts, within) from None

    async def report(self) -> Arrived:
        return Arrived(**await self._ask("GET", "/report"))

    async def arrivals(self) -> dict[str, float]:
        arrivals: dict[str, float] = await self._ask("GET", "/arrivals")
        return arrivals

    async def _ask(self, method: str, path: str) -> Any:
        return await _ask(self.session, method, f"{self.address}{path}")


@dataclass(frozen=True, slots=True)
class SimulatedCloud:
    address: str
    session: aiohttp.ClientSession

    @property
    def graph_url(self) -> str:
        return f"{self.address}/v24.0"

    async def announce(self, daemon_address: str) -> None:
        """Send status webhooks there."""
        url = f"{daemon_address}/webhooks/whatsapp"
        await self._ask("PATCH", "options", {"webhook_url": url})

    async def reset(self) -> None:
        await self._ask("DELETE", "messages")

    async def wait(self, posts: int, *, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while (await self._ask("GET", "report"))["accepted"] < posts:  # noqa: ASYNC110 another process
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            raise await _too_few(self, posts, within) from None

    async def report(self) -> Arrived:
        report = await self._ask("GET", "report")
        times = (await self.arrivals()).values()
        return Arrived(
            posts=report["arrivals"],
            distinct=report["distinct"],
            peak_per_second=report["peak_per_second"],
            first=min(times, default=0.0),
            last=max(times, default=0.0),
        )

    async def arrivals(self) -> dict[str, float]:
        found: dict[str, float] = {}
        after: int | None = 0
        while after is not None:
            page = await self._ask("GET", f"messages?limit={PAGE}&after={after}")
            for row in page["messages"]:
                found.setdefault(row["to"].removeprefix("+"), row["accepted_at"])
            after = page["next"]
        return found

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return await _ask(self.session, method, f"{self.address}/_simulator/{path}", body)


async def _too_few(cloud: Cloud, posts: int, within: float) -> BenchFailed:
    arrived = (await cloud.report()).posts
    return BenchFailed(f"{arrived} of {posts} messages arrived in {within:.0f} s")


async def _ask(session: aiohttp.ClientSession, method: str, url: str, body: Any = None) -> Any:
    # No time-out of its own: a /wait may take as long as its caller allows.
    timeout = aiohttp.ClientTimeout(total=None)
    async with session.request(method, url, json=body, timeout=timeout) as response:
        response.raise_for_status()
        return orjson.loads(await response.read())
