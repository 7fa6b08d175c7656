"""Who may do what: the three roles, row level security, and a schema put in place without the right to create roles."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.outbox_rows import Outbox, ago, outbox_at, status
from waemitter.db import schema
from waemitter.db.embedded import EmbeddedPostgres
from waemitter.db.pool import open_connection
from waemitter.db.schema import Connection
from waemitter.outbox.channels.store import ChannelStore, Template
from waemitter.outbox.letters.store import Chosen, FailureUpdate, LetterStore
from waemitter.outbox.retry import Again, Outcome, Patience
from waemitter.runtime import doorbell, gears

MINE = "select waemitter.send_text('+14155550123', 'Hello', idempotency_key => $1)"


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


@asynccontextmanager
async def role(outbox: Outbox, name: str) -> AsyncIterator[Connection]:
    async with outbox.pool.acquire() as connection:
        await connection.execute(f"set role {name}")
        try:
            yield connection
        finally:
            await connection.execute("reset role")


async def test_the_daemons_role_can_do_all_that_the_daemon_does(dsn: str) -> None:
    async with outbox_at(dsn, role="waemitter_daemon") as outbox:
        store = outbox.store
        assert await outbox.pool.fetchval("select current_user") == "waemitter_daemon"
        await store.ensure_channel(
            "default", phone_number_id="1", messages_per_second=0.0, pair_seconds=6, pair_burst=9
        )
        await store.ensure_channel(
            "other",
            phone_number_id="2",
            messages_per_second=None,
            pair_seconds=None,
            pair_burst=None,
        )
        await outbox.put_many(2, ordering_key="Ada")
        await outbox.put(expires_at=ago(1))
        failing, lost = await outbox.put_many(2)

        attempts = {attempt.id: attempt for attempt in (await outbox.claim()).attempts}
        await outbox.settle(attempts[failing], Outcome.RETRY, delay=0.0)
        await outbox.settle(attempts[1])
        await outbox.apply(status("delivered", attempts[1]))
        await outbox.claim()
        await outbox.lose(attempts[lost])
        await outbox.change(lost, available_at=ago(1))
        assert (await outbox.claim(policy="hold")).held == 1
        await store.sweep()
        assert await store.retry([lost]) == [lost]
        assert await store.cancel([lost]) == [lost]

        assert await store.get(1) is not None
        assert {channel.name for channel in await store.channels()} == {"default", "other"}
        assert await store.depth()
        await outbox.pool.fetchval(doorbell.PROBE)
        async with outbox.pool.acquire() as connection:
            assert await connection.fetchval(gears.START_PATROL)
            await connection.execute(gears.END_PATROL)
            horizon = await connection.fetchval(gears.HORIZON)
            assert not await connection.fetchval(gears.OLDER_WRITERS, horizon)


async def test_the_daemons_role_pauses_channels_and_buries_messages(dsn: str) -> None:
    async with outbox_at(dsn, role="waemitter_daemon") as outbox:
        channels, letters = ChannelStore(outbox.pool), LetterStore(outbox.pool)
        assert await channels.pause(channel="default", seconds=5, reason="test") == ["default"]
        assert await channels.resume(channel="default") == ["default"]
        assert not await channels.introduce("default", token_hash="hash")
        assert await channels.due_probes(["default"]) == []
        await channels.hold(Template("default", "hello", ""), reason="test", seconds=5)
        assert await channels.release(Template("default", "hello", "")) == 0
        await channels.suppress(channel="default", recipient="+14155550123", source="test")
        assert len(await channels.list()) == 1

        await outbox.put(recipient="+14155550124")
        doomed = await outbox.claim_one()
        await outbox.settle(doomed, Outcome.FAILED, code=100, reason="test", error_class="FAIL")
        (letter,) = await letters.list(Chosen(), limit=10)
        assert await letters.retry([letter["id"]]) == [letter["id"]]
        assert await letters.discard([letter["id"]]) == [letter["id"]]
        failure = FailureUpdate(
            doomed.id, doomed.token, None, 100, "FAIL", Again.NEVER, None, 0.0, suppress=True
        )
        patience = Patience(max_attempts=5, delays=(60,), grace=60)
        async with outbox.pool.acquire() as connection, connection.transaction():
            assert not await letters.apply_failures(connection, [failure], patience=patience)


async def test_an_application_enqueues_and_sees_its_own_only(outbox: Outbox) -> None:
    others = await outbox.put(idempotency_key="others")
    async with role(outbox, "waemitter_app") as application:
        mine = await application.fetchval(MINE, "mine")
        through_the_view = await application.fetchval(
            "insert into waemitter.message_queue (recipient, payload) values ('+1415', '{}') returning id"
        )
        seen = await application.fetch("select id from waemitter.outbox_messages order by id")
        queue = await application.fetch("select id from waemitter.message_queue order by id")

    assert [record["id"] for record in seen] == [mine, through_the_view]
    assert [record["id"] for record in queue] == [mine, through_the_view]
    assert others not in {record["id"] for record in seen}
    assert (await outbox.row(mine))["enqueued_by"] == "waemitter_app"


async def test_an_application_cancels_and_retries_its_own_only(outbox: Outbox) -> None:
    others, ended = await outbox.put_many(2)
    await outbox.store.cancel([ended])
    async with role(outbox, "waemitter_app") as application:
        mine = await application.fetchval(MINE, "mine")
        assert not await application.fetchval("select waemitter.cancel_message($1)", others)
        assert not await application.fetchval("select waemitter.retry_message($1)", ended)
        assert await application.fetchval("select waemitter.cancel_message($1)", mine)
        assert await application.fetchval("select waemitter.retry_message($1)", mine)
        trail = await application.fetch(
            "select message_id, to_status from waemitter.outbox_events order by at"
        )

    assert [tuple(event) for event in trail] == [(mine, "cancelled"), (mine, "queued")]


async def test_an_applications_cancel_lets_the_lane_go_on_whoever_comes_next(
    outbox: Outbox,
) -> None:
    async with role(outbox, "waemitter_app") as application:
        first = await application.fetchval(MINE, "first")
    attempt = await outbox.claim_one()
    theirs = await outbox.put(ordering_key=None)
    assert await outbox.claim_ids() == []
    await outbox.settle(attempt, Outcome.RETRY, delay=60.0)

    async with role(outbox, "waemitter_app") as application:
        assert await application.fetchval("select waemitter.cancel_message($1)", first)

    assert await outbox.claim_ids() == [theirs]


async def test_a_failed_attempts_token_is_kept_when_an_application_retries(outbox: Outbox) -> None:
    async with role(outbox, "waemitter_app") as application:
        mine = await application.fetchval(MINE, "mine")
    attempt = await outbox.claim_one()
    await outbox.settle(attempt, Outcome.FAILED)

    async with role(outbox, "waemitter_app") as application:
        assert await application.fetchval("select waemitter.retry_message($1)", mine)

    await outbox.apply(status("delivered", attempt))
    assert (await outbox.row(mine))["status"] == "delivered"


@pytest.mark.parametrize(
    "statement",
    [
        "insert into waemitter.outbox_messages (recipient, message_type, payload, enqueued_by) values ('+1', 'text', '{}', 'me')",
        "update waemitter.outbox_messages set enqueued_by = 'somebody'",
        "update waemitter.outbox_messages set payload = '{}'",
        "delete from waemitter.outbox_messages",
        "update waemitter.channels set messages_per_second = 0",
        "select * from waemitter.webhook_logs",
        "select * from waemitter.claim_messages('default', 1, '15 s', '0.2 s', '60 s', 'retry', 5)",
        "insert into waemitter.outbox_transitions (message_id, from_status, to_status) values (1, 'sent', 'read')",
        "insert into waemitter.outbox_attempts (message_id, token) values (1, 1)",
    ],
)
async def test_what_an_application_may_not(outbox: Outbox, statement: str) -> None:
    await outbox.put()
    async with role(outbox, "waemitter_app") as application:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(statement)


async def test_anothers_idempotency_key_is_an_error_and_not_a_silent_loss(outbox: Outbox) -> None:
    await outbox.put(idempotency_key="taken")
    async with role(outbox, "waemitter_app") as application:
        with pytest.raises(asyncpg.UniqueViolationError, match="a message of another role"):
            await application.fetchval(MINE, "taken")


async def test_a_reader_reads_everything(outbox: Outbox) -> None:
    await outbox.put()
    tables = await outbox.pool.fetch(
        "select oid::regclass::text as name from pg_class"
        " where relnamespace = 'waemitter'::regnamespace and relkind in ('r', 'v')"
    )
    async with role(outbox, "waemitter_read") as reader:
        for table in tables:
            await reader.fetch(f"select * from {table['name']} limit 1")
        assert await reader.fetchval("select count(*) from waemitter.message_queue") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "select waemitter.send_text('+1415', 'Hello')",
        "insert into waemitter.message_queue (recipient, payload) values ('+1415', '{}')",
        "update waemitter.outbox_messages set status = 'failed'",
        "delete from waemitter.webhook_logs",
        "select waemitter.cancel_message(1)",
        "select waemitter.retry_message(1)",
        "select waemitter.wake_lanes(array[1])",
        "select waemitter.sweep_outbox()",
        "update waemitter.channels set paused_until = 'infinity'",
    ],
)
async def test_a_reader_changes_nothing(outbox: Outbox, statement: str) -> None:
    await outbox.put()
    async with role(outbox, "waemitter_read") as reader:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(statement)


async def test_no_table_of_the_schema_is_without_row_level_security(outbox: Outbox) -> None:
    open_tables = await outbox.pool.fetch(
        "select relname from pg_class where relnamespace = 'waemitter'::regnamespace"
        " and relkind = 'r' and not relrowsecurity"
    )

    assert open_tables == []


async def test_functions_with_their_owners_rights_trust_nobodys_search_path(outbox: Outbox) -> None:
    functions = await outbox.pool.fetch(
        """
        select proname, proconfig, has_function_privilege('public', oid, 'execute') as for_everybody
        from pg_proc where pronamespace = 'waemitter'::regnamespace and prosecdef
        """
    )

    assert functions
    for function in functions:
        assert "search_path=pg_catalog, pg_temp" in function["proconfig"]
        assert not function["for_everybody"]


CATALOGUE = """
    select 'relation' as kind, c.oid::regclass::text as name, c.relacl::text as grants, c.reloptions::text as more
      from pg_class c where relnamespace = 'waemitter'::regnamespace
    union all
    select 'column', attrelid::regclass::text || '.' || attname, attacl::text, null
      from pg_attribute join pg_class c on c.oid = attrelid
      where relnamespace = 'waemitter'::regnamespace and attacl is not null
    union all
    select 'function', p.oid::regprocedure::text, proacl::text, proconfig::text
      from pg_proc p where pronamespace = 'waemitter'::regnamespace
    union all
    select 'policy', tablename || '.' || policyname, roles::text, coalesce(qual, '') || '/' || coalesce(with_check, '')
      from pg_policies where schemaname = 'waemitter'
    order by 1, 2, 3, 4
"""


async def test_applying_again_changes_no_grant_no_policy_and_no_option(
    any_postgres_version: str,
) -> None:
    async with open_connection(any_postgres_version) as connection:
        assert await schema.apply(connection) == []
        once = await connection.fetch(CATALOGUE)
        assert await schema.apply(connection) == []

        assert await connection.fetch(CATALOGUE) == once


async def test_the_life_of_a_message_on_any_version(any_postgres_version: str) -> None:
    async with open_connection(any_postgres_version) as connection:
        await schema.apply(connection)
    async with outbox_at(any_postgres_version) as outbox:
        messages = await outbox.put_many(3, ordering_key=None)
        for message in messages:
            await outbox.settle(await outbox.claim_one(), Outcome.RETRY, delay=0.0)
            attempt = await outbox.claim_one()
            await outbox.settle(attempt)
            await outbox.apply(status("delivered", attempt), status("read", attempt))
            assert (await outbox.row(message))["status"] == "read"
        assert await outbox.store.sweep() == 0


async def test_the_gauges_of_a_channel_that_never_sent_on_any_version(
    any_postgres_version: str,
) -> None:
    async with open_connection(any_postgres_version) as connection:
        await schema.apply(connection)
    async with outbox_at(any_postgres_version) as outbox:
        await outbox.put(available_at=ago(60))
        await outbox.pool.execute(
            "insert into waemitter.outbox_messages (recipient, message_type, payload, available_at)"
            " values ('+1415', 'text', '{}', '-infinity')"
        )

        (channel,) = await outbox.store.channels()
        (depth,) = await outbox.store.depth()
        assert (channel.name, channel.paused, channel.taken) == ("default", None, 0)
        assert (depth.status, depth.rows, depth.oldest) == ("queued", 2, math.inf)
        assert len(await outbox.claim_ids()) == 2


ROLES = ("waemitter_daemon", "waemitter_app", "waemitter_read")


async def forget_the_roles(server: EmbeddedPostgres) -> str:
    """The DSN of a database on a server where nobody has made our roles; its owner may not make them."""
    async with open_connection(server.dsn()) as administrator:
        for name in ROLES:
            await administrator.execute(f"alter role {name} rename to {name}_of_another")
        await administrator.execute("create role owner login")
        await administrator.execute("create database theirs owner owner")
    return server.dsn("theirs").replace("postgres@", "owner@")


async def test_without_the_right_to_create_roles_all_else_is_applied_and_a_warning_says_so(
    own_postgres: EmbeddedPostgres,
) -> None:
    dsn = await forget_the_roles(own_postgres)

    async with open_connection(dsn) as owner:
        said = await schema.apply(owner)
        again = await schema.apply(owner)
    async with outbox_at(dsn) as outbox:
        message = await outbox.put(ordering_key=None)
        await outbox.settle(await outbox.claim_one())

        assert (await outbox.row(message))["status"] == "sent"
    assert said == again
    assert len(said) == 3
    for name, warning in zip(ROLES, said, strict=True):
        assert warning.startswith(f"role {name} was not created: that needs CREATEROLE")


async def test_roles_made_later_by_an_administrator_get_their_rights_at_the_next_apply(
    own_postgres: EmbeddedPostgres,
) -> None:
    dsn = await forget_the_roles(own_postgres)
    async with open_connection(dsn) as owner, open_connection(own_postgres.dsn()) as administrator:
        await schema.apply(owner)
        for name in ROLES:
            await administrator.execute(f"create role {name}")

        assert await schema.apply(owner) == []

    async with open_connection(own_postgres.dsn("theirs")) as application:
        await application.execute("set role waemitter_app")
        assert await application.fetchval(MINE, "mine") == 1
