"""Who may call the API: keys, scopes, and this machine where there is no key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import orjson
import pytest

from tests.serving import MemoryAudit, MemoryRing, Site, authenticator, serving
from waemitter.errors import DatabaseUnreachable
from waemitter.web.api.model import Answered, Nothing
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.api.serving import Api
from waemitter.web.auth import Key, digest
from waemitter.web.scopes import SCOPES, Scope


class Seen(Answered):
    key: str
    scopes: list[str]
    actor: str | None


async def see(call: Call[Nothing, Nothing]) -> Answer:
    caller = call.caller
    return Answer(document=Seen(key=caller.key, scopes=sorted(caller.scopes), actor=caller.actor))


def seeing(scope: Scope | None) -> Operation[Nothing, Nothing]:
    return Operation(
        name=f"see-{scope}",
        method="GET",
        path=f"/api/{scope}",
        summary="Who am I?",
        scope=scope,
        params=Nothing,
        body=Nothing,
        handle=see,
        answers={HTTPStatus.OK: Seen},
    )


@asynccontextmanager
async def site_with(
    fixed: Mapping[str, list[str]] | None = None, **options: Any
) -> AsyncIterator[Site]:
    operations = [seeing(scope) for scope in (*SCOPES, None)]
    api = Api(operations, auth=authenticator(fixed, **options), audit=MemoryAudit())
    async with serving(api=api) as site:
        yield site


async def asked(site: Site, path: str = "/api/read", **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with site.client.get(path, headers=named) as answer:
        document = orjson.loads(await answer.read())
        if answer.status >= 400:
            assert answer.content_type == "application/problem+json"
        return answer.status, document


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_key_does_what_its_scopes_say_and_nothing_else(scope):
    async with site_with({"s3cret": [scope]}) as site:
        for other in SCOPES:
            status, document = await asked(site, f"/api/{other}", Authorization="Bearer s3cret")
            assert status == (200 if scope in {other, "admin"} else 403)
            if status == 403:
                assert other in document["detail"]
        assert (await asked(site, "/api/None", Authorization="Bearer s3cret"))[0] == 200


@pytest.mark.parametrize(
    "header",
    [None, "Bearer wrong", "Bearer", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cret2"],
)
async def test_without_a_right_key_it_is_a_401_that_says_how(header):
    async with site_with({"s3cret": ["read"]}) as site:
        headers = {} if header is None else {"Authorization": header}
        async with site.client.get("/api/read", headers=headers) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.content_type == "application/problem+json"
            assert b"s3cret" not in await answer.read()
        assert "s3cret" not in site.observed.text()


async def test_without_any_key_this_machine_may_do_everything():
    async with site_with() as site:
        for scope in SCOPES:
            status, document = await asked(site, f"/api/{scope}")
            assert (status, document["key"]) == (200, "loopback")
        assert (await asked(site, Authorization="Bearer anything"))[0] == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "203.0.113.7"),
        ("Forwarded", "for=203.0.113.7"),
        ("X-Real-IP", "203.0.113.7"),
        ("Host", "waemitter.example.com"),  # rebound to this machine
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
    ],
)
async def test_who_only_comes_by_way_of_this_machine_is_not_local(name, value):
    async with site_with() as site, site.client.get("/api/read", headers={name: value}) as answer:
        assert answer.status == 401
        assert "waemitter keys create" in await answer.text()


async def test_the_machine_s_own_page_is_local():
    async with site_with() as site:
        assert (await asked(site, Origin=site.url))[0] == 200


async def test_once_there_is_a_key_being_local_does_not_help():
    ring = MemoryRing()
    now = 0.0
    async with site_with(ring=ring, clock=lambda: now) as site:
        assert (await asked(site))[0] == 200
        ring.keys.append(Key(7, "shop", digest("made"), frozenset({"read"})))
        now = 1.0
        assert (await asked(site))[0] == 401
        assert await asked(site, Authorization="Bearer made", X_User_Id="ada@example.com") == (
            200,
            {"key": "shop", "scopes": ["read"], "actor": "ada@example.com"},
        )
        ring.keys.clear()
        ring.keys.append(Key(8, "other", digest("another"), frozenset({"read"})))
        assert (await asked(site, Authorization="Bearer made"))[0] == 200  # within the second
        now = 2.0
        assert (await asked(site, Authorization="Bearer made"))[0] == 401
        assert ring.used == [7]


async def test_x_user_id_proves_nothing():
    async with site_with({"s3cret": ["read"]}) as site:
        assert (await asked(site, X_User_Id="admin"))[0] == 401


async def test_the_keys_are_looked_up_once_a_second_however_many_ask():
    ring = MemoryRing([Key(7, "shop", digest("made"), frozenset({"read"}))])
    async with site_with(ring=ring, clock=lambda: 5.0) as site:
        for _ in range(5):
            assert (await asked(site, Authorization="Bearer made"))[0] == 200
    assert ring.asked == 1


async def test_while_the_database_is_away_the_keys_last_seen_are_good_and_nobody_is_local():
    ring = MemoryRing(failure=DatabaseUnreachable("away"))
    now = 0.0
    async with site_with({"fixed": ["read"]}, ring=ring, clock=lambda: now) as site:
        assert (await asked(site, Authorization="Bearer fixed"))[0] == 200
        assert (await asked(site, Authorization="Bearer made"))[0] == 503
        ring.failure, ring.keys = None, [Key(7, "shop", digest("made"), frozenset({"read"}))]
        now = 1.0
        assert (await asked(site, Authorization="Bearer made"))[0] == 200
        ring.failure = DatabaseUnreachable("away")
        now = 9.0
        assert (await asked(site, Authorization="Bearer made"))[0] == 200
    async with site_with(ring=ring) as site:
        assert (await asked(site))[0] == 503


async def test_too_many_requests_are_told_when_to_come_again():
    async with site_with({"s3cret": ["read"]}, rate=1, clock=lambda: 0.0) as site:
        answers = [(await asked(site, Authorization="Bearer s3cret"))[0] for _ in range(4)]
        assert answers == [200, 200, 429, 429]
        headers = {"Authorization": "Bearer s3cret"}
        async with site.client.get("/api/read", headers=headers) as answer:
            assert answer.headers["Retry-After"] == "2"


async def test_who_guesses_is_soon_not_heard_any_more_and_others_are():
    now = 0.0
    async with site_with({"s3cret": ["read"]}, clock=lambda: now) as site:
        guesses = [
            (await asked(site, Authorization="Bearer guess", X_Forwarded_For="203.0.113.7"))[0]
            for _ in range(21)
        ]
        assert guesses == [401] * 20 + [429]
        right = {"Authorization": "Bearer s3cret"}
        assert (await asked(site, X_Forwarded_For="1.1.1.1, 203.0.113.7", **right))[0] == 429
        assert (await asked(site, X_Forwarded_For="203.0.113.8", **right))[0] == 200
        now = 1.0
        assert (await asked(site, X_Forwarded_For="203.0.113.7", **right))[0] == 200
