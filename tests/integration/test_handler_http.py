"""The handler that asks a service, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.handlers import HELLO, TURN, Service, saying, serving_answers
from tests.observing import Observed, observing
from waemitter.observe.trace import of_turn
from waemitter.runtime.breaker import THRESHOLD
from waemitter.runtime.circuits import Circuits
from waemitter.turns.handlers.http import LONGEST_ANSWER, Http, target_of
from waemitter.turns.handlers.webhook_signature import key_of, sign
from waemitter.turns.turn import Answer, HandlerFailed, Session


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
    traced: float | None = None,
) -> AsyncIterator[Asking]:
    with observing() as observed:
        async with (
            serving_answers(answer) as service,
            aiohttp.ClientSession() as session,
        ):
            url = f"{service.address}/turns"
            handler = Http(
                session,
                url=url,
                key=None if secret is None else key_of(secret),
                timeout=timeout,
                traced=traced,
                service="rides",
                circuit=Circuits(observer=observed.events, clock=lambda: 0.0).to(target_of(url)),
                clock=lambda: 1795300000.9,
            )
            yield Asking(handler, service, url, observed)


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


async def test_a_turn_carries_its_trace_where_traces_are_made() -> None:
    async with asking(saying(status=204)) as plain, asking(saying(status=204), traced=1.0) as asked:
        await plain.handler.handle(TURN)
        await asked.handler.handle(TURN)

    assert "traceparent" not in plain.service.asked[0][0].headers
    assert asked.service.asked[0][0].headers["traceparent"] == of_turn(7, "c-1", ratio=1.0)


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
