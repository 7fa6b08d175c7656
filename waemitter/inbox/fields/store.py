"""What webhooks' other fields and customers' wishes change in Postgres, within the transaction of the caller."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from waemitter.inbox.fields.effects import (
    AccountBarred,
    Echo,
    NumberJudged,
    Preference,
    TemplateChanged,
)
from waemitter.inbox.fields.past import Past
from waemitter.inbox.optouts import Heard
from waemitter.inbox.store import Connection
from waemitter.whatsapp.numbers import Number
from waemitter.whatsapp.webhooks import Message


class Concerned(NamedTuple):
    """A channel, and how many of its messages go on, or failed."""

    channel: str
    messages: int


class FieldStore:
    IS_NEWS: Final = """
        select waemitter.is_news(account => $1, about => $2, subject => $3, word => $4, at => $5)
    """

    async def is_news(
        self,
        connection: Connection,
        *,
        account: str,
        about: str,
        subject: str,
        word: str,
        at: datetime.datetime | None,
    ) -> bool:
        """True when nothing newer is known about the subject; it is remembered."""
        news: bool = await connection.fetchval(self.IS_NEWS, account, about, subject, word, at)
        return news

    HEAR_TEMPLATE: Final = """
        select channel, messages
        from waemitter.hear_template(account => $1, template => $2, language => $3, state => $4, word => $5, at => $6,
                                     pause => $7, reason => $8, ended_waits => $9)
    """

    async def hear_template(
        self,
        connection: Connection,
        account: str,
        effect: TemplateChanged,
        *,
        at: datetime.datetime | None,
        ended_waits: bool,
    ) -> list[Concerned]:
        """Hold, release or fail the template's messages on every channel of the account; none for old news."""
        records = await connection.fetch(
            self.HEAR_TEMPLATE,
            account,
            effect.name,
            effect.language,
            effect.state,
            effect.word,
            at,
            effect.pause,
            effect.reason,
            ended_waits,
        )
        return [Concerned(*record) for record in records]

    HEAR_NUMBER: Final = """
        select * from waemitter.hear_number(account => $1, number => $2, word => $3, quality => $4, tier => $5, at => $6)
    """

    async def hear_number(
        self,
        connection: Connection,
        account: str,
        effect: NumberJudged,
        *,
        at: datetime.datetime | None,
    ) -> list[str]:
        """The channels that it concerns; none for old news."""
        records = await connection.fetch(
            self.HEAR_NUMBER,
            account,
            effect.number,
            effect.word,
            effect.quality,
            effect.tier,
            at,
        )
        return [record[0] for record in records]

    UPGRADE: Final = "select waemitter.upgrade_throughput(channel => $1)"

    async def upgrade_throughput(self, connection: Connection, channel: str) -> None:
        """Meta's larger limit counts, where nobody has set another."""
        await connection.execute(self.UPGRADE, channel)

    BAR_ACCOUNT: Final = """
        select * from waemitter.bar_account(account => $1, word => $2, at => $3, until => $4, templates_only => $5)
    """

    async def bar_account(
        self,
        connection: Connection,
        account: str,
        effect: AccountBarred,
        *,
        at: datetime.datetime | None,
    ) -> list[str]:
        """The channels that pause, or whose templates wait."""
        records = await connection.fetch(
            self.BAR_ACCOUNT,
            account,
            effect.word,
            at,
            effect.until,
            not effect.all_messages,
        )
        return [record[0] for record in records]

    FREE_ACCOUNT: Final = """
        select * from waemitter.free_account(account => $1, word => $2, at => $3)
    """

    async def free_account(
        self,
        connection: Connection,
        account: str,
        word: str,
        *,
        at: datetime.datetime | None,
    ) -> list[str]:
        """The channels that go on: those that Meta had stopped, not those that an operator did."""
        records = await connection.fetch(self.FREE_ACCOUNT, account, word, at)
        return [record[0] for record in records]

    HEAR_PREFERENCE: Final = """
        select waemitter.hear_preference(number => $1, wa_id => $2, user_id => $3, marketing => $4, at => $5)
    """

    async def hear_preference(
        self, connection: Connection, number: str, effect: Preference
    ) -> str | None:
        """The channel whose list has changed; None: old news, or no channel has that number."""
        channel: str | None = await connection.fetchval(
            self.HEAR_PREFERENCE, number, effect.wa_id, effect.user_id, effect.marketing, effect.at
        )
        return channel

    HEAR_ECHO: Final = """
        select waemitter.hear_echo(number => $1, wamid => $2, wa_id => $3, user_id => $4, message_type => $5, payload => $6,
                                   at => $7, takeover => $8)
    """

    async def hear_echo(
        self,
        connection: Connection,
        number: str,
        effect: Echo,
        *,
        takeover: datetime.timedelta,
    ) -> int | None:
        """The conversation that is a human's now; None: known already, or no channel has that number."""
        conversation: int | None = await connection.fetchval(
            self.HEAR_ECHO,
            number,
            effect.wamid,
            effect.wa_id,
            effect.user_id,
            effect.type,
            orjson.dumps(effect.raw).decode(),
            effect.at,
            takeover,
        )
        return conversation

    IMPORT_HISTORY: Final = """
        select waemitter.import_history(number => $1, wamids => $2, wa_ids => $3, user_ids => $4, types => $5, times => $6,
                                        from_us => $7, payloads => $8)
    """

    async def import_history(
        self, connection: Connection, number: str, messages: Sequence[Past]
    ) -> int:
        """Keep messages of the past in their conversations, each once; how many were not known."""
        columns = [list(column) for column in zip(*messages, strict=True)]
        count: int = await connection.fetchval(self.IMPORT_HISTORY, number, *columns)
        return count

    HEAR_WISH: Final = """
        select waemitter.hear_wish(wish => $1, channel => $2, wa_id => $3, user_id => $4, wamid => $5, at => $6, reply => $7,
                                   everywhere => $8, message_id => $9)
    """

    async def hear_wish(
        self,
        connection: Connection,
        channel: str,
        message: Message,
        heard: Heard,
        *,
        message_id: int | None,
        everywhere: bool,
    ) -> bool:
        """False: old news, or a START of somebody who never stopped us."""
        taken: bool = await connection.fetchval(
            self.HEAR_WISH,
            heard.wish,
            channel,
            message.sender,
            message.user_id,
            message.wamid,
            message.timestamp,
            heard.reply,
            everywhere,
            message_id,
        )
        return taken

    LEARN: Final = """
        select waemitter.learn_numbers(numbers => $1, accounts => $2, displayed => $3)
    """

    async def learn(self, connection: Connection, numbers: Sequence[Number]) -> None:
        """Which account and phone number a phone_number_id belongs to, as webhooks tell."""
        await connection.execute(self.LEARN, *map(list, zip(*numbers, strict=True)))
