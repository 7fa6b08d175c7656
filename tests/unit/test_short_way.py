"""Which requests are plain enough for the short way; all others are aiohttp's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.web.short_way import plain

BODY = b'{"object": "whatsapp_business_account"}'
HEAD = (
    b"POST /webhooks/whatsapp HTTP/1.1\r\nHost: example.org\r\nContent-Type: application/json\r\n"
    b"Content-Length: 39\r\nX-Hub-Signature-256: sha256=00\r\n\r\n"
)


def with_line(line: bytes) -> bytes:
    return HEAD[:-2] + line + b"\r\n\r\n" + BODY


def test_a_plain_request_is_read_whole():
    request = plain(HEAD + BODY)
    assert request is not None
    assert (request.path, request.body) == ("/webhooks/whatsapp", BODY)
    assert request.headers == {
        "host": "example.org",
        "content-type": "application/json",
        "content-length": "39",
        "x-hub-signature-256": "sha256=00",
    }


@pytest.mark.parametrize("line", [b"Connection: Keep-Alive", b"X-Forwarded-For: 1.2.3.4, 5.6.7.8"])
def test_what_proxies_add_is_plain(line):
    assert plain(with_line(line)) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,  # the body is still to come
        HEAD + BODY[:-1],
        HEAD + BODY + b"x",  # somebody does not wait for the answer
        HEAD + BODY + HEAD + BODY,
        HEAD[:-2],
        HEAD.replace(b"POST", b"GET") + BODY,
        HEAD.replace(b"POST", b"post") + BODY,
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + BODY,
        HEAD.replace(b"/webhooks", b"http://example.org/webhooks") + BODY,
        HEAD.replace(b"\r\n", b"\n") + BODY,
        HEAD.replace(b"Content-Length: 39\r\n", b"") + BODY,
        HEAD.replace(b": 39", b": +39") + BODY,
        HEAD.replace(b": 39", b": 3_9") + BODY,
        HEAD.replace(b": 39", b": \xb2") + BODY,
        HEAD.replace(b"Content-Length: 39", b"Content-Length : 39") + BODY,
        with_line(b"Content-Length: 39"),
        with_line(b"content-length: 38"),
        with_line(b"X-Hub-Signature-256: sha256=11"),
        with_line(b"Transfer-Encoding: chunked"),
        with_line(b"Content-Encoding: gzip"),
        with_line(b"Expect: 100-continue"),
        with_line(b"Connection: close"),
        with_line(b"Connection: Upgrade"),
        with_line(b"Upgrade: h2c"),
        with_line(b" folded: line"),
        with_line(b"no colon"),
        with_line(b"Note: caf\xc3\xa9"),
        with_line(b"Note: nul \x00"),
        with_line(b"Note: bare \r return"),
    ],
)
def test_what_is_out_of_the_ordinary_is_not_read(data):
    assert plain(data) is None


def test_a_sender_s_requests_differ_in_digests_and_lengths():
    for digest, body in ((b"0a1b", BODY), (b"ffff", b"[]"), (b"0a1b", b"{}")):
        head = HEAD.replace(b"39", str(len(body)).encode()).replace(
            b"sha256=00", b"sha256=" + digest
        )
        older = b"X-Hub-Signature: sha1=" + digest[::-1] + b"\r\n\r\n"
        request = plain(head[:-2] + older + body)
        assert request is not None
        assert request.body == body
        assert request.headers["x-hub-signature-256"] == f"sha256={digest.decode()}"
        assert request.headers["x-hub-signature"] == f"sha1={digest[::-1].decode()}"
        assert plain(head[:-2] + older + body + b" ") is None


@pytest.mark.parametrize(
    "line",
    [
        b"Note: \0",
        b"Note: \0\r\nDigest: sha256=ab",
        b"Note: \0sha256=ab",
        b"sha256=ab",
        b"X-Hub-Signature-256: sha256=ab",
        b"Digest sha256=ab",
    ],
)
def test_nothing_is_taken_for_the_digest_of_another_header(line):
    assert plain(with_line(line)) is None


@given(st.binary(max_size=64), st.integers(0, len(HEAD)))
def test_whatever_comes_is_read_whole_or_not_at_all(noise, place):
    found = plain(HEAD[:place] + noise + HEAD[place:] + BODY)
    assert found is None or found.body == BODY
