"""Open windows, and the messages that they gather. Functions of schema.sql do the work."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias

from waemitter.inbox.fields.offering import Offer
from waemitter.inbox.store import Connection


class Placed(NamedTuple):
    """A kept message and its window; the order is that of buffer_messages(). Durations in seconds."""

    message_id: int
    duration: float
    age: float
    size: int
    sliding: bool
    at_once: bool


Result: TypeAlias = Literal["opened", "joined", "closed", "rate_limited"]


class Gathered(NamedTuple):
    """What became of a message; no `buffer_id` when it was rate limited."""

    message_id: int
    conversation_id: int
    buffer_id: int | None
    result: Result


class GatheringStore:
    """Everything here is part of the caller's transaction."""

    SERVICES: Final = """
        select channel, contact_id, active_service from waemitter.user_sessions
        where contact_id = any ($1) and active_service is not null and last_interaction > clock_timestamp() - $2::interval
    """

    async def services(
        self, connection: Connection, contacts: Sequence[int], *, ttl: datetime.timedelta
    ) -> dict[tuple[str, int], str]:
        """The active services of these contacts, by channel and contact."""
        records = await connection.fetch(self.SERVICES, contacts, ttl)
        return {itemgetter(0, 1)(record): record[2] for record in records}

    GATHER: Final = """
        select message_id, conversation_id, buffer_id, result
        from waemitter.buffer_messages(message_ids => $1, durations => $2, ages => $3, sizes => $4, sliding => $5,
          at_once => $6, rate => $7, enhanced => $8)
    """

    async def gather(
        self,
        connection: Connection,
        placed: Sequence[Placed],
        *,
        rate: int,
        enhanced: bool | None,
    ) -> list[Gathered]:
        """Put messages into their windows. `rate`: those of one conversation in a minute; `enhanced`: None = by its flag."""
        columns = [list(column) for column in zip(*placed, strict=True)]
        records = await connection.fetch(self.GATHER, *columns, rate, enhanced)
        return [Gathered(*record) for record in records]

    OFFER: Final = """
        select message_id, conversation_id, buffer_id, result
        from waemitter.offer_changes(numbers => $1, accounts => $2, keys => $3, fields => $4, wa_ids => $5, user_ids => $6,
          group_ids => $7, names => $8, times => $9, payloads => $10)
    """

    async def offer(self, connection: Connection, offers: Sequence[Offer]) -> list[Gathered]:
        """Make each a turn of its own; what was offered before, or concerns no channel, gives nothing."""
        columns = [list(column) for column in zip(*offers, strict=True)]
        return [Gathered(*record) for record in await connection.fetch(self.OFFER, *columns)]
