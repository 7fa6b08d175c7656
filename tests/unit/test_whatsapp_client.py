"""What the Graph client sends, and what it makes of answers."""

import orjson
import pytest
from aioresponses import aioresponses

from tests.graph_peer import (
    BODY,
    GRAPH,
    TOKEN,
    MockedResponse,
    client,
    response,
    says,
    says_and_closes,
    talking,
)
from waemitter.whatsapp.client import GraphClient, open_session
from waemitter.whatsapp.errors import ErrorClass, Refused
from waemitter.whatsapp.health import Health
from waemitter.whatsapp.replies import Answered


async def test_a_send_is_one_post_with_the_body_untouched():
    async with talking(says(response(body=b'{"a": 1}'))) as (peer, graph):
        assert await graph.send(BODY) == Answered(200, b'{"a": 1}')
    ((head, body),) = peer.requests
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v24.0/330900000000007/messages HTTP/1.1"
    assert {f"Authorization: Bearer {TOKEN}", "Content-Type: application/json"} <= set(lines)
    assert body == BODY


@pytest.mark.parametrize("status", [200, 301, 400, 429, 503])
async def test_every_status_is_an_answer(status):
    told = response(status, b"<html>", Location="/elsewhere", X_Business_Use_Case_Usage="{}")
    async with talking(says(told)) as (peer, graph):
        assert await graph.send(BODY) == Answered(status, b"<html>", None, "{}")
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "Sun, 22 Nov 2026 10:01:30 GMT"}, None),
        (
            {
                "Retry_After": "Sun, 22 Nov 2026 10:01:30 GMT",
                "Date": "Sun, 22 Nov 2026 10:00:00 GMT",
            },
            90,
        ),
        (
            {
                "Retry_After": "Sun, 22 Nov 2026 09:00:00 GMT",
                "Date": "Sun, 22 Nov 2026 10:00:00 GMT",
            },
            0,
        ),
    ],
)
async def test_retry_after_is_in_seconds(headers, seconds):
    async with talking(says(response(429, **headers))) as (_, graph):
        reply = await graph.send(BODY)
    assert isinstance(reply, Answered)
    assert reply.retry_after == seconds


async def test_a_connection_is_kept_for_the_next_message():
    ports = set()

    async def answer(_, writer):
        ports.add(writer.get_extra_info("peername"))
        writer.write(response())

    async with talking(answer) as (peer, graph):
        for _ in range(3):
            await graph.send(BODY)
    assert (len(peer.requests), len(ports)) == (3, 1)


async def test_the_health_probe_asks_the_number_itself():
    status = {"health_status": {"can_send_message": "BLOCKED", "entities": []}}
    async with talking(says(response(body=orjson.dumps(status)))) as (peer, graph):
        assert await graph.health_status() == Health("BLOCKED", ())
    ((head, body),) = peer.requests
    assert head.startswith(b"GET /v24.0/330900000000007?fields=health_status HTTP/1.1\r\n")
    assert body == b""


async def test_a_provisional_response_is_not_the_answer():
    told = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(body=b'{"a": 1}')
    async with talking(says(told)) as (_, graph):
        assert await graph.send(BODY) == Answered(200, b'{"a": 1}')


async def test_a_response_that_ends_with_the_connection_is_read_to_its_end():
    async with talking(says_and_closes(b"HTTP/1.1 502 Bad\r\n\r\n<html>")) as (_, graph):
        assert await graph.send(BODY) == Answered(502, b"<html>")


async def test_a_token_that_would_break_out_of_its_header_is_refused():
    async with open_session(connections=1) as session:
        with pytest.raises(ValueError, match="line break"):
            GraphClient(
                session,
                base_url=GRAPH,
                phone_number_id="330900000000007",
                access_token="EAA\r\nX-Evil: 1",
                total_timeout=5,
                connect_timeout=2,
            )


async def test_a_health_probe_with_an_expired_token_is_refused():
    with aioresponses() as graph_api:
        graph_api.get(
            f"{GRAPH}/330900000000007?fields=health_status",
            status=401,
            payload={"error": {"code": 190, "message": "Expired"}},
            response_class=MockedResponse,
        )
        async with client(GRAPH) as graph:
            assert await graph.health_status() == Refused(ErrorClass.PAUSE_ACCOUNT, 190, "Expired")
