"""Channels in Postgres: their pauses, the probes that end them, and the templates that are held."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from math import isinf
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from waemitter.db.pool import outages

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Template(NamedTuple):
    """A template on a channel; language '' = every language."""

    channel: str
    name: str
    language: str


class ChannelStore:
    """What has `within` runs in that connection's transaction, else in one of its own."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    PAUSE: Final = """
        select pause_channels as name
        from waemitter.pause_channels(reason => $1, seconds => $2, channel => $3, phone_number_id => $4, waba_id => $5,
                                      account => $6, happened => $7)
    """

    async def pause(
        self,
        *,
        reason: str,
        seconds: float,
        channel: str | None = None,
        phone_number_id: str | None = None,
        waba_id: str | None = None,
        account: bool = False,
        happened: datetime.datetime | None = None,
        within: Connection | None = None,
    ) -> Sequence[str]:
        """Returns the names of the channels that are paused longer than before.

        A `reason` is a word of the error classes, a colon, and Meta's own words. One that begins with PAUSE_ is probed.
        """
        with outages():
            records = await (within or self._pool).fetch(
                self.PAUSE, reason, seconds, channel, phone_number_id, waba_id, account, happened
            )
        return [record["name"] for record in records]

    THROTTLE: Final = """
        select waemitter.throttle_channel(channel => $1, phone_number_id => $2, happened => $3)
    """

    async def throttle(
        self,
        *,
        channel: str | None = None,
        phone_number_id: str | None = None,
        happened: datetime.datetime | None = None,
        within: Connection | None = None,
    ) -> None:
        """Meta's limit was met: all daemons send more slowly for some minutes; `happened`: when Meta said so."""
        with outages():
            await (within or self._pool).execute(self.THROTTLE, channel, phone_number_id, happened)

    RESUME: Final = """
        select resume_channels as name
        from waemitter.resume_channels(channel => $1, waba_id => $2, reasons => $3)
    """

    async def resume(
        self,
        *,
        channel: str | None = None,
        waba_id: str | None = None,
        reasons: str = "%",
        within: Connection | None = None,
    ) -> Sequence[str]:
        """Returns the names of the channels whose pause this ended; `reasons` is a LIKE pattern."""
        with outages():
            records = await (within or self._pool).fetch(self.RESUME, channel, waba_id, reasons)
        return [record["name"] for record in records]

    INTRODUCE: Final = """
        with mine as materialized (
          select name, paused_until > clock_timestamp() and pause_reason like 'PAUSE_%' and access_token_hash <> $2 as repaired
          from waemitter.channels where name = $1 for no key update)
        update waemitter.channels c
        set access_token_hash = coalesce($2, c.access_token_hash),
            paused_until = case when mine.repaired then null else c.paused_until end,
            probe_at = case when c.probe_at is not null then clock_timestamp() end,
            token_asked_at = case when c.access_token_hash is not distinct from $2 then c.token_asked_at end
        from mine where c.name = mine.name and (c.access_token_hash is distinct from $2 or c.probe_at is not null)
        returning coalesce(mine.repaired, false) as resumed
    """

    async def introduce(self, channel: str, *, token_hash: str | None) -> bool:
        """Tell with which token a daemon sends; what was paused is probed at once. True: a new token ended a pause."""
        with outages():
            resumed: bool | None = await self._pool.fetchval(self.INTRODUCE, channel, token_hash)
        return bool(resumed)

    DUE_PROBES: Final = """
        with due as materialized (
          select name from waemitter.channels
          where name = any ($1) and paused_until > clock_timestamp() and probe_at <= clock_timestamp()
          order by name for no key update skip locked)
        update waemitter.channels c
        set probe_at = clock_timestamp()
                       + least(greatest(clock_timestamp() - c.paused_at, interval '1 minute'), interval '15 minutes')
        from due where c.name = due.name returning c.name
    """

    async def due_probes(self, channels: Sequence[str]) -> Sequence[str]:
        """Those of the channels that are to be probed now, by this daemon: the wait doubles, up to 15 minutes."""
        with outages():
            records = await self._pool.fetch(self.DUE_PROBES, channels)
        return [record["name"] for record in records]

    DUE_TOKENS: Final = """
        with due as materialized (
          select name from waemitter.channels
          where name = any ($1) and coalesce(token_asked_at, '-infinity') < clock_timestamp() - interval '1 day'
          order by name for no key update skip locked)
        update waemitter.channels c set token_asked_at = clock_timestamp() from due where c.name = due.name returning c.name
    """
    KEEP_EXPIRY: Final = """
        update waemitter.channels set token_expires_at = to_timestamp($2::float8) where name = $1
    """

    async def due_tokens(self, channels: Sequence[str]) -> Sequence[str]:
        """Those of the channels whose token nobody has asked about for a day; this daemon is to ask now."""
        with outages():
            records = await self._pool.fetch(self.DUE_TOKENS, channels)
        return [record["name"] for record in records]

    async def keep_expiry(self, channel: str, expires_at: float | None) -> None:
        """Note when its token expires: seconds since 1970, `inf` for never, None for not known."""
        with outages():
            await self._pool.execute(self.KEEP_EXPIRY, channel, expires_at)

    HOLD: Final = """
        select waemitter.hold_template(channel => $1, template => $2, language => $3, reason => $4,
                                       until => clock_timestamp() + $5::float8 * interval '1 second')
    """

    async def hold(
        self, template: Template, *, reason: str, seconds: float, within: Connection | None = None
    ) -> None:
        """Let the template's messages wait; `seconds` may be infinite: until it is released."""
        until = None if isinf(seconds) else seconds
        with outages():
            await (within or self._pool).execute(self.HOLD, *template, reason, until)

    RELEASE: Final = """
        select coalesce(bool_or(h.template is not null), false) as held,
               waemitter.release_template(channel => $1, template => $2, language => $3) as released
        from (select) as one left join waemitter.held_templates h on h.channel = $1 and h.template = $2
    """

    async def release(self, template: Template) -> int | None:
        """How many messages go on; None when the template was not held."""
        with outages():
            record = await self._pool.fetchrow(self.RELEASE, *template)
        assert record is not None  # noqa: S101 an aggregate has one row
        return int(record["released"]) if record["held"] else None

    SUPPRESS: Final = """
        insert into waemitter.suppressions (channel, address, scope, reason, source)
        select $1, waemitter.address($2), 'marketing', 'marketing_stop', $3 on conflict do nothing
    """

    async def suppress(self, *, channel: str, recipient: str, source: str) -> None:
        """The recipient wants no more marketing from this channel."""
        with outages():
            await self._pool.execute(self.SUPPRESS, channel, recipient, source)

    LIST: Final = """
        select c.name, c.kind, case when c.paused_until > clock_timestamp() then 'paused' else 'sending' end as state,
               c.messages_per_second, case when c.paused_until > clock_timestamp() then c.pause_reason end as pause_reason,
               case when c.paused_until > clock_timestamp() then nullif(c.paused_until, 'infinity') end as paused_until,
               c.probe_at, c.quality, c.tier, c.phone_number_id, c.waba_id,
               nullif(c.token_expires_at, 'infinity') as token_expires_at,
               array(select h.template || case when h.language = '' then '' else ' (' || h.language || ')' end
                     from waemitter.held_templates h
                     where h.channel = c.name and (h.until is null or h.until > clock_timestamp()) order by 1) as held_templates
        from waemitter.channels c order by c.name
    """

    async def list(self) -> Sequence[dict[str, Any]]:
        with outages():
            return [dict(record) for record in await self._pool.fetch(self.LIST)]
