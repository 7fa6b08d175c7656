"""`[[routes]]`: which turns they take, as written, and made into what the turns work with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from waemitter.errors import PayloadError
from waemitter.inbox.windows import OFF, Window
from waemitter.settings.durations import Duration, split_list
from waemitter.settings.metadata import Group, Kind, setting
from waemitter.settings.receiving import BufferMode
from waemitter.settings.values import ServiceUrl, lowered
from waemitter.turns.conditions import Conditions, Pattern, Words, compile_pattern, folded
from waemitter.turns.routes import Route, Variant
from waemitter.whatsapp.requests import normalise_recipient

HandlerKind = Annotated[
    Literal["reply", "http", "python", "sql", "chatwoot", "agent"], BeforeValidator(lowered)
]
_FUNCTION: Final = re.compile(r"[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)?", re.ASCII)
_ENTRY: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def _check_patterns(values: tuple[str, ...]) -> tuple[str, ...]:
    for each in values:
        compile_pattern(each)
    return values


def _check_contact(text: str) -> str:
    try:
        return normalise_recipient(text).value.removeprefix("+")
    except PayloadError as error:
        raise ValueError(f"holds what {error.reason}") from None


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Words = Annotated[
    tuple[Annotated[str, MinLen(1)], ...], BeforeValidator(_listed), Kind("text, or several")
]
_Patterns = Annotated[_Words, AfterValidator(_check_patterns), Kind("expression, or several")]
_Contacts = Annotated[
    tuple[Annotated[str, AfterValidator(_check_contact)], ...],
    BeforeValidator(split_list),
    Kind("phone numbers or user ids"),
]
_Table = Annotated[dict[str, Any], Kind("table")]
_Tables = Annotated[tuple[dict[str, Any], ...], Kind("list of tables")]
_Buttons = Annotated[tuple[str | dict[str, Any], ...], Kind("list of texts or tables")]


class BufferTable(Group):
    """A route's own window; what it leaves out, `inbox.buffer_*` says."""

    mode: BufferMode | None = None
    duration: Duration | None = Field(None, gt=0)
    max_size: int | None = Field(None, ge=1)
    max_age: Duration | None = Field(None, gt=0)

    def window(self, general: Window) -> Window:
        return Window(
            mode=self.mode or general.mode,
            duration=self.duration or general.duration,
            max_size=self.max_size or general.max_size,
            max_age=self.max_age or general.max_age,
        )


class HandlerOptions(Group):
    """Who answers, and what it needs for that."""

    handler: HandlerKind | None = setting(None, "Who answers.")
    text: str | None = setting(
        None, "`reply`: a text, or what stands above buttons or a list.", min_length=1
    )
    buttons: _Buttons = setting((), "`reply`: up to three, each a text or `{ id, title }`.")
    list: _Table | None = setting(
        None, "`reply`: `{ button, rows = [{ id, title, description }] }`, or with `sections`."
    )
    template: _Table | None = setting(
        None, "`reply`: `{ name, language, parameters = [texts] }`, or with `components`."
    )
    image: _Table | None = setting(None, "`reply`: `{ link, caption }`, or with `id`.")
    video: _Table | None = setting(None, "`reply`: as `image`.")
    audio: _Table | None = setting(None, "`reply`: `{ link }`, or `{ id }`.")
    document: _Table | None = setting(None, "`reply`: as `image`, with `filename`.")
    sticker: _Table | None = setting(None, "`reply`: as `audio`.")
    location: _Table | None = setting(None, "`reply`: `{ latitude, longitude, name, address }`.")
    messages: _Tables = setting((), "`reply`: whole Cloud API objects, after the others.")
    handover: bool = setting(
        False,  # noqa: FBT003 - the first argument is the default, whatever its type
        "`reply`: a human goes on from here.",
    )
    url: ServiceUrl | None = setting(None, "`http`: the service.")
    secret_env: str | None = setting(None, "`http`: the variable that holds the signing secret.")
    secret_file: Path | None = setting(None, "`http`: the file that holds it.")
    timeout: Duration | None = setting(
        None,
        "How long it may take; unless set, `turns.forward_timeout` for `http`, `turns.timeout` for `python` and `sql`.",
        gt=0,
    )
    function: str | None = setting(
        None, "`python`: `package.module:function`; `sql`: `schema.function`, from jsonb to jsonb."
    )
    agent: str | None = setting(None, "`agent`: the name of its `[agents.<name>]`.")
    desk: str | None = setting(
        None, "`chatwoot`: the channel of its inbox; unless set, the only one of that kind."
    )


class VariantTable(HandlerOptions):
    """A `[[routes.variants]]` table."""

    name: str = setting("", "What it is called in figures.", min_length=1, max_length=63)
    weight: float = setting(
        1.0, "Its share, beside those of the others.", gt=0, allow_inf_nan=False
    )


class RouteTable(HandlerOptions):
    """A `[[routes]]` table as written."""

    name: str = setting("", "What it is called; unique.", min_length=1, max_length=63)
    keywords: _Words = setting((), "Whole messages, in any case; or ids of tapped buttons.")
    prefix: _Words = setting((), "How a message begins, in any case.")
    contains: _Words = setting((), "What stands somewhere in a message, in any case.")
    regex: _Patterns = setting((), "Expressions of RE2 that match somewhere, in any case.")
    types: _Words = setting((), "Meta's message types: `text`, `image`, `location` …")
    referral: bool | None = setting(
        None, "`true`: messages that came from an advertisement; `false`: the others."
    )
    field: _Words = setting(
        (),
        "What Meta tells beside messages: webhook fields as `calls`, `flows`, `account_update`; each is a turn of its own.",
    )
    event: _Words = setting(
        (),
        "Only such changes of the field, in lower case: `missed` (of calls), `disabled_update` …",
    )
    contacts: _Contacts = setting((), "Only for these contacts.")
    percent: float | None = setting(
        None,
        "Only for so many of a hundred contacts, always the same ones; beside `contacts`, for those too.",
        ge=0,
        le=100,
    )
    fallback: bool = setting(
        False,  # noqa: FBT003 - as above
        "Takes what no other route takes.",
    )
    service: str | None = setting(
        None,
        "Becomes the session's active_service: later messages come here.",
        min_length=1,
        max_length=63,
    )
    ends_session: bool = setting(
        False,  # noqa: FBT003 - as above
        "Comes before an active session, and ends it.",
    )
    buffer: Annotated[BufferTable, Kind("table")] | None = setting(
        None,
        "A window of its own: `{ mode, duration, max_size, max_age }`.",
    )
    supersede: Annotated[Literal["keep", "discard"], BeforeValidator(lowered)] = setting(
        "keep",
        "When more is written while a turn is worked on: `keep` sends the answer, and goes on with a new turn; "
        "`discard` drops it, and works on both, at most twice.",
    )
    variants: tuple[dict[str, Any], ...] = Field(default=(), description="`[[routes.variants]]`.")

    @property
    def conditions(self) -> Conditions:
        return Conditions(
            words=Words(
                keywords=frozenset(map(folded, self.keywords)),
                prefix=tuple(map(folded, self.prefix)),
                contains=tuple(map(folded, self.contains)),
                patterns=tuple(self._patterns()),
            ),
            types=frozenset(self.types),
            referral=self.referral,
            contacts=frozenset(self.contacts),
            percent=self.percent,
            fields=frozenset(self.field),
            events=frozenset(each.strip().lower() for each in self.event),
        )

    def _patterns(self) -> Iterator[Pattern]:
        return map(compile_pattern, self.regex)


class Answering(Group):
    """One way in which a route answers, with everything resolved; `replies`: Cloud API objects, checked."""

    handler: HandlerKind
    variant: str
    weight: float
    options: HandlerOptions
    secret: SecretStr | None
    replies: tuple[dict[str, Any], ...]


class RouteSettings(Group):
    """A route, with everything resolved. Without variants it has one, named as its handler."""

    table: RouteTable
    answering: tuple[Answering, ...]

    @property
    def name(self) -> str:
        return self.table.name

    @property
    def _window(self) -> Window | None:
        """People read as it comes; None: as all routes."""
        people = all(each.handler == "chatwoot" for each in self.answering)
        return OFF if people else None

    def route(self, general: Window) -> Route:
        """Make it what turns choose from; `general`: the window of `inbox.buffer_*`."""
        table = self.table
        return Route(
            name=table.name,
            variants=tuple(Variant(a.variant, a.handler, a.weight) for a in self.answering),
            conditions=table.conditions,
            fallback=table.fallback,
            ends_session=table.ends_session,
            service=table.service,
            supersede=table.supersede,
            buffer=table.buffer.window(general) if table.buffer else self._window,
        )


def check_function(kind: str, written: str) -> None:
    """Raise ValueError for what cannot be the name of a function of that kind."""
    if kind == "sql" and not _FUNCTION.fullmatch(written):
        raise ValueError("must be schema.function, in lower case")
    if kind == "python" and not _ENTRY.fullmatch(written):
        raise ValueError("must be package.module:function")
