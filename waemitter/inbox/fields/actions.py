"""What the effects of webhooks' other fields do, each within the transaction of its webhook; and what a STOP does."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Final, NamedTuple, TypeAlias

from waemitter.inbox.fields.effects import (
    AccountBarred,
    AccountFreed,
    Alert,
    Echo,
    Effect,
    History,
    NumberJudged,
    Preference,
    TemplateChanged,
    TemplateJudged,
    Told,
)
from waemitter.inbox.fields.reading import FIELDS, read_change
from waemitter.inbox.fields.store import FieldStore
from waemitter.inbox.optout_words import LANGUAGES
from waemitter.inbox.optouts import OptOutWords
from waemitter.inbox.store import Connection
from waemitter.observe.events import Events
from waemitter.whatsapp.webhooks import FieldChange, Message

Tell: TypeAlias = Callable[[], None]


class Rules(NamedTuple):
    """The settings of opt-outs and of what Meta tells. A reply of None is the language's own, an empty one is none.

    `everywhere`: a STOP to one channel concerns all of them. `ended_waits`: messages of a template that is at its end wait,
    and do not fail. `takeover`: how long a conversation is a human's after a colleague wrote in it.
    """

    languages: Sequence[str] = tuple(LANGUAGES)
    stop_words: Sequence[str] = ()
    start_words: Sequence[str] = ()
    stop_reply: str | None = None
    start_reply: str | None = None
    everywhere: bool = False
    ended_waits: bool = False
    takeover: datetime.timedelta = datetime.timedelta(hours=4)


class FieldActions:
    """The handlers of the fields that mean something here."""

    def __init__(
        self, store: FieldStore, rules: Rules, *, events: Events, released: Callable[[], None]
    ) -> None:
        """`released()`: messages may go on."""
        self._store = store
        self._events = events
        self._released = released
        self._rules = rules
        self.handlers: Final = dict.fromkeys(FIELDS, self.handle)

    async def handle(self, connection: Connection, change: FieldChange) -> Tell:
        tells = [
            tell
            for effect in read_change(change)
            for tell in await self._act(connection, change, effect)
        ]
        return partial(_tell_all, tells)

    async def _act(self, connection: Connection, change: FieldChange, effect: Effect) -> list[Tell]:
        account = change.entry_id or change.phone_number_id or ""
        tells: list[Tell] = []
        match effect:
            case TemplateChanged():
                tells = await self._change_template(connection, account, change.time, effect)
            case TemplateJudged():
                tells = await self._judge_template(connection, account, change.time, effect)
            case NumberJudged():
                tells = await self._judge_number(connection, account, change.time, effect)
            case AccountBarred():
                tells = await self._bar(connection, account, change.time, effect)
            case AccountFreed():
                tells = await self._free(connection, account, change.time, effect)
            case Preference():
                tells = await self._prefer(connection, change.phone_number_id, effect)
            case Echo():
                tells = await self._take_over(connection, change.phone_number_id, effect)
            case History():
                tells = await self._remember(connection, change.phone_number_id, effect)
            case Alert() | Told():
                tells = [self._merely_told(effect)]
        return tells

    def _merely_told(self, effect: Alert | Told) -> Tell:
        if isinstance(effect, Alert):
            return partial(self._events.account_alert, word=effect.word, severity=effect.severity)
        return partial(self._events.field_heard, kind=effect.kind, word=effect.word)

    async def _judge_number(
        self,
        connection: Connection,
        account: str,
        at: datetime.datetime | None,
        effect: NumberJudged,
    ) -> list[Tell]:
        channels = await self._store.hear_number(connection, account, effect, at=at)
        if effect.upgraded:
            for channel in channels:
                await self._store.upgrade_throughput(connection, channel)
        tell = partial(
            self._events.number_judged, word=effect.word, quality=effect.quality, tier=effect.tier
        )
        return [partial(tell, channel=channel) for channel in channels]

    async def _free(
        self,
        connection: Connection,
        account: str,
        at: datetime.datetime | None,
        effect: AccountFreed,
    ) -> list[Tell]:
        channels = await self._store.free_account(connection, account, effect.word, at=at)
        told = [partial(self._events.channel_resumed, channel=channel) for channel in channels]
        return [*told, self._released]

    async def _prefer(
        self, connection: Connection, number: str | None, effect: Preference
    ) -> list[Tell]:
        channel = await self._store.hear_preference(connection, number or "", effect)
        if channel is None:
            return []
        wish = "start" if effect.marketing else "stop"
        tell = self._events.opt_out_heard
        return [partial(tell, channel=channel, wish=wish, scope="marketing")]

    async def _take_over(
        self, connection: Connection, number: str | None, effect: Echo
    ) -> list[Tell]:
        takeover = self._rules.takeover
        conversation = await self._store.hear_echo(
            connection, number or "", effect, takeover=takeover
        )
        if conversation is None:
            return []
        tell = self._events.colleague_wrote
        return [partial(tell, conversation_id=conversation, message_type=effect.type)]

    async def _remember(
        self, connection: Connection, number: str | None, effect: History
    ) -> list[Tell]:
        count = await self._store.import_history(connection, number or "", effect.messages)
        return [partial(self._events.history_imported, messages=count, word=effect.word)]

    async def _change_template(
        self,
        connection: Connection,
        account: str,
        at: datetime.datetime | None,
        effect: TemplateChanged,
    ) -> list[Tell]:
        if effect.category:
            await self._store.is_news(
                connection,
                account=account,
                about="template_category",
                subject=effect.name,
                word=effect.category,
                at=at,
            )
        concerned = await self._store.hear_template(
            connection, account, effect, at=at, ended_waits=self._rules.ended_waits
        )
        tells: list[Tell] = [
            partial(
                self._events.template_changed,
                channel=channel,
                template=effect.name,
                language=effect.language,
                state=effect.state,
                word=effect.word,
                messages=messages,
            )
            for channel, messages in concerned
        ]
        return [*tells, self._released] if any(each.messages for each in concerned) else tells

    async def _bar(
        self,
        connection: Connection,
        account: str,
        at: datetime.datetime | None,
        effect: AccountBarred,
    ) -> list[Tell]:
        channels = await self._store.bar_account(connection, account, effect, at=at)
        if effect.all_messages:
            tell = partial(
                self._events.channel_paused,
                reason=f"PAUSE_ACCOUNT: {effect.word}",
                seconds=(effect.until - at).total_seconds() if effect.until and at else inf,
            )
            return [partial(tell, channel=channel) for channel in channels]
        until = effect.until.isoformat() if effect.until else None
        barred = partial(self._events.templates_barred, word=effect.word, until=until)
        return [partial(barred, channel=channel) for channel in channels]

    async def _judge_template(
        self,
        connection: Connection,
        account: str,
        at: datetime.datetime | None,
        effect: TemplateJudged,
    ) -> list[Tell]:
        coming = (
            effect.aspect == "category" and effect.warning
        )  # not what it is, but what it will be
        fresh = coming or await self._store.is_news(
            connection,
            account=account,
            about=f"template_{effect.aspect}",
            subject=effect.name if effect.aspect == "category" else effect.subject,
            word=effect.after or "",
            at=at,
        )
        tell = partial(
            self._events.template_judged,
            template=effect.name,
            language=effect.language,
            aspect=effect.aspect,
            before=effect.before,
            after=effect.after,
            warning=effect.warning,
        )
        return [tell] if fresh else []


def _tell_all(tells: Sequence[Tell]) -> None:
    for tell in tells:
        tell()


class OptOuts:
    """Hears STOP and START in messages."""

    def __init__(self, store: FieldStore, rules: Rules, *, events: Events) -> None:
        self._store = store
        self._events = events
        self._everywhere = rules.everywhere
        self._words = OptOutWords(
            rules.languages,
            stop_words=rules.stop_words,
            start_words=rules.start_words,
            stop_reply=rules.stop_reply,
            start_reply=rules.start_reply,
        )

    async def hear(
        self, connection: Connection, channel: str, message: Message, message_id: int | None
    ) -> Tell | None:
        """What a new message of one person wishes, if it does, is done; it returns what to tell."""
        heard = self._words.hear(message.raw)
        if heard is None:
            return None
        taken = await self._store.hear_wish(
            connection,
            channel,
            message,
            heard,
            message_id=message_id,
            everywhere=self._everywhere,
        )
        tell = partial(self._events.opt_out_heard, channel=channel, wish=heard.wish, scope="all")
        return tell if taken else None
