"""docs/migrating.md: what the five older systems had queued is carried over, once, however often the statements run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from waemitter.jobs.schedule import parse
from waemitter.jobs.store import JobStore

PAGE = Path(__file__).parents[2] / "docs/migrating.md"
STATEMENTS = re.findall(r"^```pgsql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)

# As the older systems made them; the two of which only some columns are known, with those.
OLD = """
create table public.outbox_messages (
  id uuid primary key default gen_random_uuid(), recipient text, message_type text, payload jsonb, status text,
  created_at timestamptz default now());
create table public.message_queue (
  id uuid primary key default gen_random_uuid(), campaign_id uuid, recipient text, message_type text, payload jsonb, status text,
  error_message text, "whatsappMessageId" text, created_at timestamptz default now());
create table public.wa_dead_letter_queue (
  id uuid primary key default gen_random_uuid(), message_id text, from_number text not null, payload jsonb not null,
  error_message text, error_stack text, retry_count integer default 0, next_retry_at timestamptz,
  processed boolean default false, processed_at timestamptz, created_at timestamptz default now(),
  updated_at timestamptz default now());
create table public.user_sessions (
  id uuid primary key default gen_random_uuid(), phone_number text unique not null, active_service text, context jsonb,
  last_interaction timestamptz default now(), created_at timestamptz default now(), updated_at timestamptz default now());
create table public.feature_flags (flag_name text primary key, is_enabled boolean, description text);
create table public.processed_webhook_messages (id uuid primary key default gen_random_uuid(), whatsapp_message_id text);
create table public.webhook_dlq (
  id uuid primary key default gen_random_uuid(), whatsapp_message_id text, payload jsonb, error text,
  retry_count integer default 0, next_retry_at timestamptz, resolution_status text);

create schema cron;
create table cron.job (jobid bigserial, schedule text, command text, jobname text, active boolean default true);

insert into cron.job (schedule, jobname, active) values ('*/5 * * * *', 'dlq-processor', true),
  ('*/2 * * * *', 'dlq-processor', true), ('10 seconds', 'buffer-processor', false), ('0 3 * * *', 'theirs', true);
insert into public.outbox_messages (recipient, message_type, payload, status)
  select '+14155550100', 'text', '{"text": {"body": "hello"}}', s from unnest(array['queued', 'queued', 'sent', 'failed']) s;
insert into public.message_queue (campaign_id, recipient, message_type, payload, status)
  select gen_random_uuid(), '+14155550101', 'text', '{"text": {"body": "hello"}}', s
  from unnest(array['pending', 'processing', 'sent', 'delivered']) s;
insert into public.wa_dead_letter_queue (message_id, from_number, payload, retry_count, processed)
  values ('wamid.1', '14155550102', '{"id": "wamid.1"}', 2, false), ('wamid.2', '14155550102', '{}', 0, true);
insert into public.user_sessions (phone_number, active_service, context, last_interaction)
  values ('+14155550103', 'rides', '{"step": 2}', now()), ('14155550104', 'jobs', null, now()),
         ('+14155550105', 'rides', null, now() - interval '3 days');
insert into public.feature_flags values ('message_buffering', false, ''), ('theirs', true, '');
insert into public.processed_webhook_messages (whatsapp_message_id) values ('wamid.3'), ('wamid.4');
insert into public.webhook_dlq (whatsapp_message_id, payload, resolution_status)
  values ('wamid.5', '{}', 'pending'), ('wamid.6', '{}', 'resolved');
"""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def carried_over(connection: Connection) -> Connection:
    await connection.execute(OLD)
    assert len(STATEMENTS) == 8
    for _ in range(2):
        for statement in STATEMENTS:
            await connection.execute(statement)
    return connection


async def test_what_was_queued_waits_here_once_and_the_rest_stays(carried_over: Connection) -> None:
    rows = await carried_over.fetch(
        "select recipient, status, max_attempts, left(correlation_id, 4) from waemitter.outbox_messages order by id"
    )
    assert [tuple(row) for row in rows] == [
        ("+14155550100", "queued", None, "outb"),
        ("+14155550100", "queued", None, "outb"),
        ("+14155550101", "queued", 3, "camp"),
    ]


async def test_dead_letters_keep_their_retries(carried_over: Connection) -> None:
    rows = await carried_over.fetch(
        "select whatsapp_message_id, retry_count, resolution_status from waemitter.dead_letters order by id"
    )
    assert [tuple(row) for row in rows] == [("wamid.1", 2, "pending"), ("wamid.5", 0, "pending")]


async def test_sessions_find_their_contact(carried_over: Connection) -> None:
    rows = await carried_over.fetch(
        "select c.wa_id, s.active_service, s.context::text from waemitter.user_sessions s"
        " join waemitter.contacts c on c.id = s.contact_id order by 1"
    )
    assert [tuple(row) for row in rows] == [
        ("14155550103", "rides", '{"step": 2}'),
        ("14155550104", "jobs", "{}"),
    ]


async def test_switches_and_what_was_handled_come_along(carried_over: Connection) -> None:
    assert await carried_over.fetchval(
        "select not is_enabled from waemitter.feature_flags where flag_name = 'message_buffering'"
    )
    assert not await carried_over.fetchval(
        "select count(*) from waemitter.feature_flags where flag_name = 'theirs'"
    )
    handled = "select count(*) from waemitter.processed_webhook_messages where field = 'messages'"
    assert await carried_over.fetchval(handled) == 2


async def test_schedules_come_along_and_stand_when_the_daemon_starts(
    carried_over: Connection, dsn: str
) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        await JobStore(pool).ensure({"dlq-processor": "5m", "buffer-processor": "10s"})
    rows = await carried_over.fetch(
        "select jobname, schedule, active from waemitter.cron_job order by 1"
    )
    assert [tuple(row) for row in rows] == [
        ("buffer-processor", "10 seconds", False),
        ("dlq-processor", "*/2 * * * *", True),
    ]
    for row in rows:
        assert parse(row["schedule"], "UTC").words


async def test_a_schedule_follows_its_setting_once_the_daemon_knew_it(
    carried_over: Connection, dsn: str
) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        for default in ("5m", "5m", "7m"):
            await JobStore(pool).ensure({"dlq-processor": default})
    schedule = "select schedule from waemitter.jobs where name = 'dlq-processor'"
    assert await carried_over.fetchval(schedule) == "7m"
