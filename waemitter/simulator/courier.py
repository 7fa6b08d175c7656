"""Carries webhooks to their address: in time, in batches, and again until they are taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from random import Random
from time import monotonic

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from waemitter.simulator.ledger import WebhookTally
from waemitter.simulator.options import Options
from waemitter.simulator.webhooks import Update, encode, envelope, signature

_WRONG_SECRET = "not-the-app-secret"  # noqa: S105 - made to be rejected
_OK = 200
_DUPLICATE_AFTER = 0.05


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST; `retry_after` seconds are waited when it fails, and `first_at` tells its age."""

    body: bytes
    first_at: float
    retry_after: float
    signed: bool = True
    tries: int = 0


class Courier:
    """Delivers what is scheduled; `run` does it until cancelled.

    `heard` is told of each customer's message when its moment comes, whether or not anybody
    receives webhooks.
    """

    def __init__(
        self,
        *,
        options: Options,
        tally: WebhookTally,
        random: Random,
        heard: Callable[[Update, float], None],
    ) -> None:
        self.options = options
        self._tally = tally
        self._random = random
        self._heard = heard
        self._due: list[tuple[float, int, Update | Delivery]] = []
        self._order = count()
        self._bell = asyncio.Event()
        self._posts: asyncio.Queue[Delivery] = asyncio.Queue()
        self._unfinished = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def schedule(self, due: float, item: Update | Delivery) -> None:
        """Deliver at the monotonic moment `due`."""
        first = not self._due or due < self._due[0][0]
        heappush(self._due, (due, next(self._order), item))
        self._unfinished += 1
        self._idle.clear()
        if first:
            self._bell.set()

    def deliver(self, body: bytes, *, signed: bool = True) -> None:
        """Deliver these bytes now; `signed` False puts a wrong signature on the first try."""
        self.schedule(
            monotonic(),
            Delivery(body, monotonic(), self.options.webhook_retry_initial, signed),
        )

    def clear(self) -> None:
        """Forget what is not on its way yet."""
        self._finish(len(self._due))
        self._due.clear()

    @property
    def pending(self) -> int:
        """Updates and POSTs that are scheduled, on their way, or waiting to be tried again."""
        return self._unfinished

    async def settle(self) -> None:
        """Return when everything scheduled so far, redeliveries too, was taken or given up."""
        await self._idle.wait()

    def _finish(self, number: int = 1) -> None:
        self._unfinished -= number
        if not self._unfinished:
            self._idle.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        connections = self.options.webhook_connections
        async with (
            ClientSession(connector=TCPConnector(limit=connections)) as session,
            asyncio.TaskGroup() as posting,
        ):
            for _ in range(connections):
                posting.create_task(self._post_forever(session))
            while True:
                await self._wait_for_due()
                self._hand_over(monotonic())

    async def _wait_for_due(self) -> None:
        while True:
            wait = self._next_moment() - monotonic()
            if wait <= 0:
                return
            self._bell.clear()
            try:
                async with asyncio.timeout(wait if self._due else None):
                    await self._bell.wait()
            except TimeoutError:
                return

    def _next_moment(self) -> float:
        if not self._due:
            return float("inf")
        gather = self.options.webhook_batch_wait if self.options.webhook_batch > 1 else 0.0
        return self._due[0][0] + gather

    def _hand_over(self, now: float) -> None:
        batch: list[Update] = []
        while self._due and self._due[0][0] <= now:
            item = heappop(self._due)[2]
            if isinstance(item, Delivery):
                self._posts.put_nowait(item)
                continue
            if item.message is not None:
                self._heard(item, now)
            batch.append(item)
            if len(batch) >= self.options.webhook_batch:
                self._pack(batch, now)
                batch = []
        if batch:
            self._pack(batch, now)

    def _pack(self, batch: list[Update], now: float) -> None:
        options = self.options
        if options.webhook_url is not None:
            body = encode(envelope(batch, options.waba_id), options.webhook_escapes)
            signed = self._random.random() >= options.bad_signatures
            delivery = Delivery(body, now, options.webhook_retry_initial, signed)
            self._unfinished += 1
            self._posts.put_nowait(delivery)
            if self._random.random() < options.duplicate_webhooks:
                later = now + self._random.random() * _DUPLICATE_AFTER
                self.schedule(later, replace(delivery, tries=1))
        # Only now: had it come first, there would be a moment at which nothing seems to be left.
        self._finish(len(batch))

    async def _post_forever(self, session: ClientSession) -> None:
        while True:
            delivery = await self._posts.get()
            if await self._post(session, delivery):
                self._tally.acked += 1
            else:
                self._tally.failed += 1
                self._redeliver(delivery, monotonic())
            self._finish()

    async def _post(self, session: ClientSession, delivery: Delivery) -> bool:
        options = self.options
        if options.webhook_url is None:
            return False
        self._tally.sent += 1
        self._tally.redelivered += delivery.tries > 0
        secret = options.app_secret if delivery.signed else _WRONG_SECRET
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
            "X-Hub-Signature-256": signature(delivery.body, secret),
        }
        try:
            async with session.post(
                options.webhook_url,
                data=delivery.body,
                headers=headers,
                timeout=ClientTimeout(total=options.webhook_timeout),
            ) as reply:
                await reply.read()
                return reply.status == _OK
        except (ClientError, OSError, TimeoutError):
            return False

    def _redeliver(self, delivery: Delivery, now: float) -> None:
        options = self.options
        if options.webhook_url is None or now - delivery.first_at > options.webhook_retry_for:
            self._tally.given_up += 1
            return
        later = replace(
            delivery,
            retry_after=min(delivery.retry_after * 2, options.webhook_retry_max),
            signed=True,
            tries=delivery.tries + 1,
        )
        self.schedule(now + delivery.retry_after, later)
