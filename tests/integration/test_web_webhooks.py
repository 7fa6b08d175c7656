import asyncio
import gzip
import io
from collections.abc import AsyncIterator

import pytest

from tests.serving import SECRET, VERIFY_TOKEN, Site, serving, signed_post
from tests.support import eventually
from waemitter.web.webhooks import MAX_BODY
from waemitter.whatsapp.signature import sign

PATH = "/webhooks/whatsapp"
PATHS = [
    prefix + path
    for prefix in ("", "/functions/v1")
    for path in (PATH, "/api/webhooks/whatsapp/status", "/wa-webhook-core")
]
BODY = rb'{"object": "whatsapp_business_account", "entry": [{"note": "\u00fc \ud83d\ude00 a\/b"}]}'
HANDSHAKE = {"hub.mode": "subscribe", "hub.verify_token": VERIFY_TOKEN, "hub.challenge": "118"}


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": sign(secret, body), "Content-Type": "application/json"}


def padded(size: int) -> bytes:
    return b'{"pad": "' + b"x" * (size - 11) + b'"}'


@pytest.fixture
async def site():
    async with serving() as site:
        yield site


async def assert_refused(site: Site, response, status: int, reason: str) -> None:
    assert response.status == status
    assert response.content_type == "application/problem+json"
    problem = await response.json(content_type=None)
    assert problem["status"] == status
    assert site.requests(reason) == 1
    (line,) = site.observed.lines("WEBHOOK_REJECTED")
    assert line["reason"] == reason
    assert site.journal.entries == []


@pytest.mark.parametrize("path", PATHS)
async def test_the_handshake_answers_the_challenge_as_plain_text(site, path):
    async with site.client.get(path, params=HANDSHAKE) as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        assert await response.text() == "118"
    assert site.requests("verified") == 1
    assert len(site.observed.lines("WEBHOOK_VERIFIED")) == 1


@pytest.mark.parametrize(
    "change",
    [{"hub.verify_token": "guess"}, {"hub.mode": "unsubscribe"}, {"hub.verify_token": ""}],
)
async def test_a_handshake_that_is_not_ours_is_forbidden(site, change):
    async with site.client.get(PATH, params=HANDSHAKE | change) as response:
        await assert_refused(site, response, 403, "handshake_refused")


async def test_without_a_verify_token_the_log_says_what_to_set():
    async with (
        serving(verify_tokens=()) as site,
        site.client.get(PATH, params=HANDSHAKE | {"hub.verify_token": ""}) as response,
    ):
        await assert_refused(site, response, 403, "no_verify_token")
        assert "WHATSAPP_VERIFY_TOKEN" in site.observed.text()


@pytest.mark.parametrize("token", ["first", "second"])
async def test_each_channel_may_have_a_verify_token_of_its_own(token):
    async with (
        serving(verify_tokens=("first", "second")) as site,
        site.client.get(PATH, params=HANDSHAKE | {"hub.verify_token": token}) as response,
    ):
        assert (response.status, await response.text()) == (200, "118")


@pytest.mark.parametrize("path", PATHS)
async def test_a_signed_webhook_is_journalled_byte_for_byte(site, path):
    headers = signed(BODY) | {"X-Correlation-ID": "c-1", "Authorization": "Bearer s3cret"}
    async with site.client.post(path, data=BODY, headers=headers) as response:
        assert response.status == 200
    ((source, body, kept),) = site.journal.entries
    assert (source, body) == ("whatsapp", BODY)
    assert kept["x-correlation-id"] == "c-1"
    assert kept["x-hub-signature-256"] == sign(SECRET, BODY)
    assert "authorization" not in kept
    assert site.requests("accepted") == 1
    assert site.observed.value("webhook_request_duration_seconds_count") == 1
    (line,) = site.observed.lines("WEBHOOK_ACCEPTED")
    assert line["bytes"] == len(BODY)
    assert line["correlation_id"] == "c-1"


async def test_the_200_waits_for_the_journal(site):
    site.journal.open.clear()
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(site.client.post(PATH, data=BODY, headers=signed(BODY)))
        await site.journal.asked.wait()
        async with site.client.get("/health/live") as live:  # the server has had time to answer
            assert live.status == 200
        assert not answer.done()
        site.journal.open.set()
    assert answer.result().status == 200
    answer.result().release()


async def test_either_secret_of_a_rotation_is_accepted():
    async with serving(app_secrets=("old", "new")) as site:
        for secret in ("old", "new"):
            headers = signed(BODY, secret)
            async with site.client.post(PATH, data=BODY, headers=headers) as response:
                assert response.status == 200


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing_signature"),
        (signed(BODY, "another secret"), "bad_signature"),
        (signed(BODY + b" "), "bad_signature"),
        ({"X-Hub-Signature-256": ""}, "bad_signature"),
    ],
)
async def test_a_webhook_that_meta_did_not_sign_is_unauthorised(site, headers, reason):
    async with site.client.post(PATH, data=BODY, headers=headers) as response:
        await assert_refused(site, response, 401, reason)


@pytest.mark.parametrize("secrets", [(), ("",)])
async def test_without_an_app_secret_nothing_is_believed_and_the_log_says_what_to_set(secrets):
    async with (
        serving(app_secrets=secrets) as site,
        site.client.post(PATH, data=BODY, headers=signed(BODY, "")) as response,
    ):
        await assert_refused(site, response, 401, "no_secret")
        assert "WHATSAPP_APP_SECRET" in site.observed.text()


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"{", b"\xff\xfe", b"null"])
async def test_a_signed_body_that_is_no_json_object_is_a_bad_request(site, body):
    async with site.client.post(PATH, data=body, headers=signed(body)) as response:
        await assert_refused(site, response, 400, "not_json")


async def test_a_compressed_body_is_taken_as_the_bytes_it_is(site):
    body = gzip.compress(BODY)
    headers = signed(body) | {"Content-Encoding": "gzip"}
    async with site.client.post(PATH, data=body, headers=headers) as response:
        await assert_refused(site, response, 400, "not_json")


async def test_the_largest_body_that_meta_sends_is_accepted(site):
    body = padded(MAX_BODY)
    async with site.client.post(PATH, data=io.BytesIO(body), headers=signed(body)) as response:
        assert response.status == 200


async def chunked(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


@pytest.mark.parametrize("as_stream", [False, True])
async def test_a_larger_body_is_refused_with_and_without_its_length(site, as_stream):
    body = padded(MAX_BODY + 1)
    data = chunked(body) if as_stream else io.BytesIO(body)
    async with site.client.post(PATH, data=data, headers=signed(body)) as response:
        await assert_refused(site, response, 413, "too_large")


async def test_a_journal_that_fails_asks_meta_to_come_again(site):
    site.journal.failure = RuntimeError("duplicate key for +14155550123")
    async with site.client.post(PATH, data=BODY, headers=signed(BODY)) as response:
        assert int(response.headers["Retry-After"]) > 0
        await assert_refused(site, response, 503, "journal_unavailable")
    (line,) = site.observed.lines("WEBHOOK_REJECTED")
    assert line["error"] == "RuntimeError"
    assert "duplicate key" not in site.observed.text()


def half_a_post(length: int = 100) -> bytes:
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=0\r\n"
        f'Content-Length: {length}\r\n\r\n{{"half":'
    ).encode()


async def test_a_sender_that_dawdles_is_cut_off():
    async with serving(read_timeout=0.05) as site:
        reader, writer = await site.connect()
        writer.write(half_a_post())
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert answer.startswith("HTTP/1.1 408 ")
        assert "Connection: close" in answer
        assert site.requests("too_slow") == 1
        assert site.journal.entries == []
        writer.close()
        await writer.wait_closed()


async def test_what_arrives_at_once_is_bounded_and_what_is_whole_is_served_all_the_same():
    async with serving(most_arriving=20) as site:
        _, dawdler = await site.connect()
        dawdler.write(half_a_post())
        await dawdler.drain()
        reader, writer = await site.connect()
        writer.write(half_a_post() + b'"' + b"x" * 20)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert answer.startswith("HTTP/1.1 503 ")
        assert "Retry-After" in answer
        assert site.requests("overloaded") == 1
        async with site.client.post(PATH, data=BODY, headers=signed(BODY)) as response:
            assert response.status == 200
        for each in (dawdler, writer):
            each.close()
            await each.wait_closed()
        await eventually(lambda: site.requests("disconnected") == 1)
        body = padded(15)  # room again
        _, slow = await site.connect()
        for part in (signed_post(body)[:-5], signed_post(body)[-5:]):
            slow.write(part)
            await slow.drain()
        await eventually(lambda: site.requests("accepted") == 2)
        slow.close()
        await slow.wait_closed()


async def test_a_sender_that_hangs_up_halfway_is_no_bug_of_ours(site):
    _, writer = await site.connect()
    writer.write(half_a_post())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: site.requests("disconnected") == 1)
    assert site.observed.lines("HTTP_REQUEST_FAILED") == []
    assert site.journal.entries == []


async def test_a_sender_that_hangs_up_does_not_cancel_what_is_being_stored(site):
    site.journal.open.clear()
    _, writer = await site.connect()
    writer.write(signed_post(BODY))
    await site.journal.asked.wait()
    writer.close()
    await writer.wait_closed()
    async with site.client.get("/health/live") as live:  # by now the server has heard of it
        assert live.status == 200
    site.journal.open.set()
    await eventually(lambda: site.requests("accepted") == 1)
    assert [body for _, body, _ in site.journal.entries] == [BODY]


async def test_no_body_and_no_secret_reaches_the_log(site):
    secret_body = b'{"text": {"body": "my little secret"}}'
    for headers in (signed(secret_body), signed(secret_body, "wrong"), {}):
        async with site.client.post(PATH, data=secret_body, headers=headers):
            pass
    async with site.client.get(PATH, params=HANDSHAKE):
        pass
    log = site.observed.text()
    assert len(site.observed.lines()) == 4
    for word in ("little secret", SECRET, VERIFY_TOKEN, sign(SECRET, secret_body)):
        assert word not in log
