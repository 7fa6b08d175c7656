"""The handlers that call a function: in Python, and in Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.handlers import HELLO, TURN
from waemitter.db.pool import open_pool
from waemitter.errors import DatabaseUnreachable, UsageError
from waemitter.turns.handlers.python import Python, load_function
from waemitter.turns.handlers.sql import Sql
from waemitter.turns.handlers.sql.store import FunctionStore
from waemitter.turns.turn import Answer, HandlerFailed, Session, Turn


async def greet(turn: Turn) -> dict[str, Any]:
    return {"messages": [HELLO], "session": {"context": {"name": turn.contact.name}}}


def shout(turn: Turn) -> str:
    return turn.text.upper()


async def pass_by(_: Turn) -> HandlerFailed:
    raise HandlerFailed("later", retry=True)


async def test_a_coroutine_function_a_plain_one_and_an_answer() -> None:
    def answer(_: Turn) -> Answer:
        return Answer(messages=[HELLO])

    asked = [
        await Python(each, timeout=30, service=None).handle(TURN) for each in (greet, shout, answer)
    ]

    assert asked[0].session == Session("rides", {"name": "Ada"})
    assert [list(each.messages) for each in asked] == [
        [HELLO],
        [{"type": "text", "text": {"body": "A RIDE"}}],
        [HELLO],
    ]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (7, "the function's answer: answer: must be an Answer, a dict, a text or None"),
        ("", "the function's answer: messages[0].text.body: is empty: write something"),
        (
            Answer(messages=[{}]),
            "the function's answer: messages[0].type: must be a message type, such as text",
        ),
    ],
)
async def test_what_a_function_may_not_answer(result: Any, reason: str) -> None:
    with pytest.raises(HandlerFailed) as raised:
        await Python(lambda _: result, timeout=30, service=None).handle(TURN)

    assert (str(raised.value), raised.value.retry) == (reason, False)


async def test_a_function_has_its_time_and_its_own_failures() -> None:
    async def dawdle(_: Turn) -> None:
        await asyncio.Event().wait()

    async def give_up(_: Turn) -> None:
        raise TimeoutError

    reasons = []
    for function in (dawdle, give_up, pass_by):
        with pytest.raises(HandlerFailed) as raised:
            await Python(function, timeout=0.05 if function is dawdle else 30, service=None).handle(
                TURN
            )
        assert raised.value.retry
        reasons.append(str(raised.value))

    assert reasons == [
        "the function took too long",
        "the function ran into a time-out of its own",
        "later",
    ]


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("no.such.module:f", "cannot import no.such.module"),
        ("json:no_such", "json has no function no_such"),
        ("json:__doc__", "json has no function __doc__"),
    ],
)
def test_a_function_that_is_not_there_is_told_at_the_start(written: str, complaint: str) -> None:
    found: object = load_function("json:JSONDecoder.decode")
    assert found is json.JSONDecoder.decode
    with pytest.raises(UsageError, match=complaint):
        load_function(written)


FUNCTIONS = """
    create schema shop;
    create function shop.answer(turn jsonb) returns jsonb language sql as $$
      select jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('type', 'text', 'text',
        jsonb_build_object('body', 'Hello ' || (turn #>> '{contact,name}')))))
    $$;
    create function shop.answer(turn text) returns jsonb language sql as 'select null::jsonb';
    create function shop.silent(turn jsonb) returns jsonb language sql as 'select null::jsonb';
    create function shop.wrong(turn jsonb) returns jsonb language sql as 'select ''[]''::jsonb';
    create function shop.slow(turn jsonb) returns jsonb language sql as
      'select to_jsonb(pg_sleep(600)::text)';
    create function shop.broken(turn jsonb) returns jsonb language plpgsql as
      $$begin raise exception 'no room for %', turn ->> 'text'; end$$;
    create function shop.racing(turn jsonb) returns jsonb language plpgsql as
      $$begin raise serialization_failure; end$$;
"""


@asynccontextmanager
async def functions(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> AsyncIterator[FunctionStore]:
    await connection.execute(FUNCTIONS)
    async with open_pool(dsn, size=2) as pool:
        yield FunctionStore(pool)


async def test_a_function_in_postgres_answers(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with functions(dsn, connection) as store:
        answer = await Sql(store, function="shop.answer", timeout=30, service=None).handle(TURN)
        silent = await Sql(store, function="shop.silent", timeout=30, service=None).handle(TURN)

        assert list(answer.messages) == [{"type": "text", "text": {"body": "Hello Ada"}}]
        assert silent == Answer()
        assert await store.missing(["shop.answer", "shop.gone", "shop.slow"]) == ["shop.gone"]


@pytest.mark.parametrize(
    ("function", "reason", "retry"),
    [
        ("wrong", "the function's answer: answer: must be an object", False),
        ("broken", "shop.broken failed: RaiseError, SQLSTATE P0001", False),
        ("racing", "shop.racing failed: SerializationError, SQLSTATE 40001", True),
        ("slow", "shop.slow failed: QueryCanceledError, SQLSTATE 57014", True),
        ("gone", "shop.gone failed: UndefinedFunctionError, SQLSTATE 42883", False),
    ],
)
async def test_what_a_function_in_postgres_may_do_wrong(
    dsn: str,
    connection: asyncpg.Connection[asyncpg.Record],
    function: str,
    reason: str,
    retry: Any,
) -> None:
    async with functions(dsn, connection) as store:
        timeout = 0.1 if function == "slow" else 30
        with pytest.raises(HandlerFailed) as raised:
            await Sql(store, function=f"shop.{function}", timeout=timeout, service=None).handle(
                TURN
            )

        assert (str(raised.value), raised.value.retry) == (reason, retry)


class Away:
    async def answer(self, *_: Any, **__: Any) -> Any:
        raise DatabaseUnreachable("the database is away")


async def test_without_its_database_a_function_is_called_later() -> None:
    with pytest.raises(HandlerFailed) as raised:
        await Sql(Away(), function="shop.answer", timeout=30, service=None).handle(TURN)

    assert (str(raised.value), raised.value.retry) == ("the database does not answer", True)
