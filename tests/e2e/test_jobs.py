"""Jobs, with whole daemons: run from the command line and over HTTP, and dead letters that come due."""

from __future__ import annotations

import hashlib
import hmac

import asyncpg
import orjson

from tests.e2e.scene import Scene, command, kill, post, until
from tests.inbox_bench import said, told
from waemitter.db.pool import open_connection
from waemitter.ops.stage import APP_SECRET, NUMBER_ID

REFUSE = """
    create function waemitter.refuse() returns trigger language plpgsql as
      $$ begin raise exception 'refused' using errcode = 'data_exception'; end $$;
    create trigger refuse before insert on waemitter.inbound_messages for each row
      when (new.whatsapp_message_id = 'wamid.poison') execute function waemitter.refuse()
"""


RUNNING = (
    "select true from waemitter.job_runs where status = 'running' and job_name = 'session-cleanup'"
)


async def hear(address: str, body: bytes) -> None:
    signature = "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert await post(f"{address}/webhooks/whatsapp", body, X_Hub_Signature_256=signature) == 200


async def test_a_letter_is_redone_as_soon_as_an_operator_says_so(
    scene: Scene, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    _, address = await scene.daemon()
    await connection.execute(REFUSE)
    await hear(address, told(said("wamid.poison"), said("wamid.good"), number=NUMBER_ID))
    letter = "select id from waemitter.dead_letters where resolution_status = 'pending'"
    letter_id = await until(lambda: connection.fetchval(letter))
    await connection.execute("drop trigger refuse on waemitter.inbound_messages")

    retried = await command("dlq", "retry", str(letter_id), environ={"DATABASE_URL": scene.dsn})

    assert retried.code == 0, retried.err
    await until(
        lambda: connection.fetchval(
            "select true from waemitter.dead_letters where id = $1 and resolution_status = 'resolved'",
            letter_id,
        )
    )
    kept = await connection.fetchval(
        "select count(*) from waemitter.inbound_messages where whatsapp_message_id = 'wamid.poison'"
    )
    assert kept == 1
    due = await connection.fetchval("select count(*) from waemitter.job_runs where reason = 'due'")
    assert due >= 1


async def test_jobs_are_run_from_the_command_line_and_over_http(
    scene: Scene, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    _, address = await scene.daemon()
    environ = {"DATABASE_URL": scene.dsn}

    done = await command("jobs", "run", "session-cleanup", environ=environ)
    listed = await command("jobs", "list", "--json", environ=environ)
    unknown = await command("jobs", "run", "nothing", environ=environ)

    assert done.code == 0, done.err
    assert orjson.loads(done.out)["sessions"]["ttlHours"] == 24
    assert {job["name"] for job in listed.json()} == {
        *("dlq-processor", "buffer-processor", "session-cleanup"),
        *("cleanup-stuck-conversations", "refresh-analytics", "retention", "alerts"),
    }
    assert (unknown.code, unknown.complaints) == (
        1,
        ["waemitter: there is no job nothing; `waemitter jobs list` names them"],
    )
    for job in listed.json():
        assert await post(f"{address}/api/jobs/{job['name']}/run", b"") == 200
    assert await post(f"{address}/functions/v1/dlq-processor", b"") == 200
    failed = await connection.fetch("select * from waemitter.job_runs where status = 'failed'")
    assert failed == []


async def test_a_killed_daemon_s_job_is_run_by_the_next(
    scene: Scene, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    first, _ = await scene.daemon()
    async with connection.transaction():
        await connection.execute("lock table waemitter.user_sessions in exclusive mode")
        async with open_connection(scene.dsn) as other:
            await other.execute("select waemitter.run_job('session-cleanup')")
            await until(lambda: other.fetchval(RUNNING))
            await kill(first)
    await connection.execute("update waemitter.jobs set running_until = now()")
    await scene.daemon()
    ended = "select status from waemitter.job_runs where job_name = 'session-cleanup' and finished_at is not null"
    assert await until(lambda: connection.fetchval(ended)) == "succeeded"
