"""The handlers that ask somebody: a service over real sockets, a function, a function in Postgres."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from tests.observing import Observed, observing
from waemitter.db.pool import open_pool
from waemitter.errors import DatabaseUnreachable, UsageError
from waemitter.runtime.breaker import THRESHOLD
from waemitter.runtime.circuits import Circuits
from waemitter.turns.handlers.http import LONGEST_ANSWER, Http, target_of
from waemitter.turns.handlers.python import Python, load_function
from waemitter.turns.handlers.sql import Sql
from waemitter.turns.handlers.sql.store import FunctionStore
from waemitter.turns.handlers.webhook_signature import key_of, sign
from waemitter.turns.turn import Answer, Contact, HandlerFailed, Session, Turn

HELLO = {"type": "text", "text": {"body": "Hello"}}
TURN = Turn(
    turn_id=7,
    attempt=1,
    channel="default",
    route="rides",
    conversation_id=3,
    contact=Contact(5, "14155550123", None, "+14155550123", "Ada"),
    session=Session("rides", {"step": 1}),
    text="a ride",
    messages=[{"id": "wamid.1", "type": "text", "text": {"body": "a ride"}}],
    correlation_id="c-1",
)


class Service:
    """Answers what it is told, and keeps what it was asked."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self.asked: list[tuple[web.Request, bytes]] = []
        self._answer = answer

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request, await request.read()))
        return await self._answer(request)


class Asking:
    """A handler before a service, and what was observed of it."""

    def __init__(self, handler: Http, service: Service, url: str, observed: Observed) -> None:
        self.handler = handler
        self.service = service
        self.url = url
        self.observed = observed


@asynccontextmanager
async def asking(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    timeout: float = 30,
    secret: str | None = "s3cret",
) -> AsyncIterator[Asking]:
    service = Service(answer)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/turns"
    with observing() as observed:
        async with aiohttp.ClientSession() as session:
            handler = Http(
                session,
                url=url,
                key=None if secret is None else key_of(secret),
                timeout=timeout,
                service="rides",
                circuit=Circuits(observer=observed.events, clock=lambda: 0.0).to(target_of(url)),
                clock=lambda: 1795300000.9,
            )
            yield Asking(handler, service, url, observed)
    await runner.cleanup()


def saying(status: int = 200, **response: Any) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        if "json" in response:
            return web.json_response(response["json"], status=status)
        return web.Response(status=status, **response)

    return answer


async def failure(asked: Asking) -> HandlerFailed:
    with pytest.raises(HandlerFailed) as raised:
        await asked.handler.handle(TURN)
    return raised.value


async def test_a_service_gets_the_turn_signed_and_answers_it() -> None:
    document = {"messages": [HELLO], "session": {"context": {"step": 2}}, "handover": True}
    async with asking(saying(json=document)) as asked:
        answer = await asked.handler.handle(TURN)

    assert answer == Answer(messages=(HELLO,), session=Session("rides", {"step": 2}), handover=True)
    ((request, body),) = asked.service.asked
    signed = b"turn_7.1795300000." + body
    digest = b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{digest}"
    assert (request.headers["webhook-id"], request.headers["webhook-timestamp"]) == (
        "turn_7",
        "1795300000",
    )
    assert request.headers["X-Correlation-ID"] == "c-1"
    assert request.headers["X-WA-Internal-Forward"] == "1"
    assert await request.json() == TURN.plain()


def test_the_signature_is_the_standard_s() -> None:
    """The example of https://github.com/standard-webhooks/standard-webhooks, whose secret it names."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    assert key_of(secret) == b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert (
        sign(
            key_of(secret),
            webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp=1614265330,
            body=b'{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


async def test_without_a_secret_nothing_is_signed() -> None:
    async with asking(saying(status=204), secret=None) as asked:
        await asked.handler.handle(TURN)

    assert "webhook-signature" not in asked.service.asked[0][0].headers


@pytest.mark.parametrize(
    "answer", [saying(status=204), saying(status=202, text="later"), saying(), saying(json={})]
)
async def test_no_reply_is_a_fine_answer(answer: Any) -> None:
    async with asking(answer) as asked:
        assert await asked.handler.handle(TURN) == Answer()


@pytest.mark.parametrize(
    ("answer", "reason", "retry"),
    [
        (saying(status=500, text="s3cret"), "the service answered 500", True),
        (saying(status=429), "the service answered 429", True),
        (saying(status=404), "the service answered 404", False),
        (saying(text="oops"), "the service's answer is no JSON", False),
        (saying(json=[]), "the service's answer: answer: must be an object", False),
        (
            saying(json={"messages": [{"type": "text", "text": {"body": ""}}]}),
            "the service's answer: messages[0].text.body: is empty: write something",
            False,
        ),
        (
            saying(body=b" " * (LONGEST_ANSWER + 1)),
            f"the service's answer has more than {LONGEST_ANSWER} bytes",
            False,
        ),
    ],
)
async def test_what_is_tried_again_and_what_is_not(answer: Any, reason: str, retry: Any) -> None:
    async with asking(answer) as asked:
        failed = await failure(asked)

    assert (str(failed), failed.retry) == (reason, retry)


async def test_a_redirect_is_not_followed() -> None:
    async def answer(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with asking(answer) as asked:
        failed = await failure(asked)

    assert (str(failed), failed.retry) == ("the service answered 307", False)
    assert [request.path for request, _ in asked.service.asked] == ["/turns"]


async def test_a_service_that_takes_too_long_or_hangs_up_is_asked_again() -> None:
    hung = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        hung.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with asking(hang, timeout=0.2) as asked:
        failed = await failure(asked)
        assert hung.is_set()
    assert (str(failed), failed.retry) == ("the service did not answer in time", True)
    async with asking(hang_up) as asked:
        failed = await failure(asked)
    assert (str(failed), failed.retry) == (
        "the service was not reached: ServerDisconnectedError",
        True,
    )


async def test_a_service_that_keeps_failing_is_left_alone() -> None:
    async with asking(saying(status=503)) as asked:
        for _ in range(THRESHOLD):
            await failure(asked)
        failed = await failure(asked)

        assert failed.retry
        assert str(failed) == f"{target_of(asked.url)} failed too often just now"
        assert len(asked.service.asked) == THRESHOLD
        assert asked.observed.value("circuit_state", target=target_of(asked.url)) == 2


async def test_a_wrong_answer_is_no_sign_that_a_service_is_down() -> None:
    async with asking(saying(status=400)) as asked:
        for _ in range(THRESHOLD + 1):
            assert str(await failure(asked)) == "the service answered 400"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:9000/turns?x=1", "http://127.0.0.1:9000"),
        ("https://rides.test/a", "https://rides.test"),
        ("http://[::1]:9000/", "http://[::1]:9000"),
    ],
)
def test_a_service_is_known_by_where_it_is(url: str, target: str) -> None:
    assert target_of(url) == target


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
