"""Chatwoot's door: by signature, secret address, key or from this machine; nothing is stored of anybody else."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.serving import MemoryRing, Site, authenticator, serving
from waemitter.chatwoot.signature import sign
from waemitter.web.auth import Key, digest
from waemitter.web.chatwoot import PATHS, ChatwootReceiver, Signatures

BODY = b'{"event": "message_created", "id": 1}'
SECRETS = ("account's", "inbox's")
NOW = 1_800_000_000.0
PATH = "/webhooks/chatwoot"


@asynccontextmanager
async def door(
    *,
    secrets: tuple[str, ...] = SECRETS,
    path_secret: str | None = None,
    signatures: Signatures = "if-present",
    keys: bool = True,
) -> AsyncIterator[Site]:
    ring = MemoryRing(
        [
            Key(1, "hook", digest("trigger-key"), frozenset({"trigger"})),
            Key(2, "reader", digest("read-key"), frozenset({"read"})),
        ]
        if keys
        else []
    )

    def desk(journal: Any, events: Any) -> ChatwootReceiver:
        return ChatwootReceiver(
            secrets=secrets,
            path_secret=path_secret,
            signatures=signatures,
            auth=authenticator(ring=ring),
            journal=journal,
            events=events,
            wall=lambda: NOW,
        )

    async with serving(desk=desk) as site:
        yield site


def signed(secret: str = SECRETS[0], *, late: float = 0.0, body: bytes = BODY) -> dict[str, str]:
    stamp = str(int(NOW - late))
    return {
        "X-Chatwoot-Timestamp": stamp,
        "X-Chatwoot-Signature": sign(secret, timestamp=stamp, raw=body),
    }


async def post(
    site: Site, headers: dict[str, str] | None = None, *, path: str = PATH, body: bytes = BODY
) -> int:
    async with site.client.post(path, data=io.BytesIO(body), headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prefix", ["", "/functions/v1"])
async def test_a_signed_webhook_is_journalled_as_it_came(path: str, prefix: str) -> None:
    async with door() as site:
        headers = signed(SECRETS[1]) | {"X-Chatwoot-Delivery": "d-1"}
        assert await post(site, headers, path=f"{prefix}{path}?action=handle") == 200

        [(source, body, kept)] = site.journal.entries
        assert (source, body, kept["x-chatwoot-delivery"]) == ("chatwoot", BODY, "d-1")
        accepted = site.observed.value(
            "webhook_requests_total", source="chatwoot", result="accepted"
        )
        assert accepted == 1


@pytest.mark.parametrize(
    "headers",
    [
        signed("another's"),
        signed(late=301),
        signed(late=-301),
        signed(body=b"{}"),
        signed() | {"X-Chatwoot-Timestamp": "soon"},
        {"X-Chatwoot-Signature": signed()["X-Chatwoot-Signature"]},
        {},
        {"Authorization": "Bearer unknown"},
    ],
    ids=["secret", "old", "early", "body", "no time", "without time", "nothing", "key"],
)
@pytest.mark.parametrize("signatures", ["if-present", "require"])
async def test_who_cannot_prove_it_is_refused_and_nothing_is_stored(
    headers: dict[str, str], signatures: Signatures
) -> None:
    async with door(signatures=signatures) as site:
        assert await post(site, headers) == 401
        assert site.journal.entries == []


@pytest.mark.parametrize(
    ("path", "headers", "signatures", "status"),
    [
        (f"{PATH}/hidden", {}, "if-present", 200),
        (f"{PATH}/hidden", {}, "off", 200),
        (f"{PATH}/hidden", {}, "require", 401),
        (f"{PATH}/hidden", signed("another's"), "if-present", 401),
        (f"{PATH}/hidden", signed("another's"), "off", 200),
        (f"{PATH}/guessed", {}, "if-present", 401),
        (f"{PATH}/guessed", signed(), "if-present", 200),
        (PATH, {}, "off", 401),
        (PATH, {"Authorization": "Bearer trigger-key"}, "if-present", 200),
        (PATH, {"Authorization": "Bearer read-key"}, "if-present", 403),
        (PATH, {"Authorization": "Bearer trigger-key"}, "require", 401),
    ],
)
async def test_older_servers_come_by_a_secret_address_or_with_a_key(
    path: str, headers: dict[str, str], signatures: Signatures, status: int
) -> None:
    async with door(path_secret="hidden", signatures=signatures) as site:
        assert await post(site, headers, path=path) == status
        assert len(site.journal.entries) == (status == 200)


async def test_without_any_secret_this_machine_alone_is_heard() -> None:
    async with door(secrets=(), keys=False) as site:
        assert await post(site) == 200
        assert await post(site, {"X-Forwarded-For": "203.0.113.9"}) == 401
    async with door(secrets=()) as site:
        assert await post(site) == 401  # there are keys by now


async def test_what_is_no_json_or_cannot_be_stored_is_said_so() -> None:
    async with door() as site:
        assert await post(site, signed(body=b"[]"), body=b"[]") == 400
        site.journal.failure = OSError("disk")
        assert await post(site, signed()) == 503
        reader, writer = await site.connect()
        writer.write(
            b"POST /webhooks/chatwoot HTTP/1.1\r\nHost: here\r\nContent-Length: 3145729\r\n\r\n"
        )
        assert b" 413 " in await reader.readline()
        writer.close()
        assert site.journal.entries == []
