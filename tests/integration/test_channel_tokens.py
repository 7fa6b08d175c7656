"""How long a number's access token is good: asked once a day by one daemon, kept, and told in time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.observing import Observed, observing
from tests.outbox_rows import Outbox, ago, outbox_at
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.channels.tokens import Tokens
from waemitter.simulator import Options, Simulator
from waemitter.whatsapp.client import GraphClient, open_session

DAY = 86_400.0


@dataclass
class House:
    outbox: Outbox
    tokens: Tokens
    meta: Simulator
    observed: Observed

    async def expires(self) -> object:
        return await self.outbox.pool.fetchval(
            "select extract(epoch from token_expires_at)::float8 from waemitter.channels"
        )


@asynccontextmanager
async def house(dsn: str, **options: float) -> AsyncIterator[House]:
    with observing() as observed:
        async with (
            outbox_at(dsn) as outbox,
            Simulator(Options(**options)) as meta,  # type: ignore[arg-type]
            open_session(connections=2) as session,
        ):
            client = GraphClient(
                session,
                base_url=meta.base_url,
                phone_number_id="111000111",
                access_token="s3cret",
                total_timeout=5,
                connect_timeout=5,
            )
            tokens = Tokens(
                ChannelStore(outbox.pool),
                {"default": client},
                events=observed.events,
                wall=time.time,
                jitter=lambda: 1.0,
            )
            yield House(outbox, tokens, meta, observed)


@pytest.mark.parametrize(("seconds", "told"), [(3 * DAY, True), (90 * DAY, False)])
async def test_an_expiry_is_kept_and_told_when_it_is_near(
    dsn: str, seconds: float, told: object
) -> None:
    async with house(dsn, token_seconds=seconds) as h:
        await h.tokens.look()

        assert await h.expires() == pytest.approx(time.time() + seconds, abs=60)
        assert bool(h.observed.lines("CHANNEL_TOKEN_EXPIRES")) is told
        assert "s3cret" not in h.observed.text()


async def test_one_that_never_expires_is_told_so(dsn: str) -> None:
    async with house(dsn) as h:
        await h.tokens.look()
        assert await h.expires() == float("inf")


async def test_meta_is_asked_once_a_day_and_anew_for_a_new_token(dsn: str) -> None:
    async with house(dsn, token_seconds=90 * DAY) as h:
        await h.tokens.look()
        first = await h.expires()
        h.meta.configure(token_seconds=30 * DAY)
        await h.tokens.look()
        assert await h.expires() == first

        await h.outbox.channel("default", token_asked_at=ago(DAY + 60))
        await h.tokens.look()
        assert await h.expires() != first

        h.meta.configure(token_seconds=60 * DAY)
        await ChannelStore(h.outbox.pool).introduce("default", token_hash="another")
        await h.tokens.look()
        assert await h.expires() == pytest.approx(time.time() + 60 * DAY, abs=60)
