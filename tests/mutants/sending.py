"""Seeded defects of the outbox and of the Graph client."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "fence dropped",
        "schema.sql",
        "where o.id = g.id and o.token = g.token and case g.outcome",
        "where o.id = g.id and case g.outcome",
        ("tests/integration/test_stale_races.py", "-k", "settles"),
    ),
    Mutant(
        "lane check left out",
        "schema.sql",
        "select d.id, d.available_at, d.started, d.lane, d.address, d.lane <> '' and (",
        "select d.id, d.available_at, d.started, d.lane, d.address, d.lane = '~' and (",
        ("tests/integration/test_outbox_lanes.py",),
    ),
    Mutant(
        "lane check left out, before any order of operations",
        "schema.sql",
        "select d.id, d.available_at, d.started, d.lane, d.address, d.lane <> '' and (",
        "select d.id, d.available_at, d.started, d.lane, d.address, d.lane = '~' and (",
        ("tests/integration/test_outbox_stateful.py",),
    ),
    Mutant(
        "failed over delivered",
        "schema.sql",
        "select case word when 'sent' then 2 when 'failed' then 3 when 'delivered' then 4",
        "select case word when 'sent' then 2 when 'failed' then 5 when 'delivered' then 4",
        ("tests/integration/test_outbox_statuses.py",),
    ),
    Mutant(
        "token of a status ignored",
        "schema.sql",
        "where o.id = g.message_id and o.token = g.token and o.claimed_at is not null) mine on true",
        "where o.id = g.message_id and o.claimed_at is not null) mine on true",
        ("tests/integration/test_outbox_attempts.py", "tests/integration/test_outbox_statuses.py"),
    ),
    Mutant(
        "GCRA off by one",
        "schema.sql",
        "if v_rate > 0 then v_tat := v_tat + cardinality(v_take) * interval '1 second' / v_rate; end if;",
        "if v_rate > 0 then v_tat := v_tat + (cardinality(v_take) - 1) * interval '1 second' / v_rate; end if;",
        ("tests/integration/test_outbox_slots.py",),
    ),
    Mutant(
        "grace ignored",
        "schema.sql",
        "set status = case when wait_until is null and again then 'queued' else 'unconfirmed' end,",
        "set status = case when again then 'queued' else 'unconfirmed' end,",
        ("tests/integration/test_outbox_grace.py",),
    ),
    Mutant(
        "Meta's lateness ignored",
        "schema.sql",
        "when end_graces.told < g.over and",
        "when false and",
        ("tests/integration/test_outbox_grace.py", "-k", "itself_is_late"),
    ),
    Mutant(
        "a lost lease is simply sent again",
        "schema.sql",
        "update waemitter.outbox_messages o set status = 'unconfirmed', available_at = until",
        "update waemitter.outbox_messages o set status = 'queued', available_at = at",
        (
            "tests/integration/test_outbox_settle.py",
            "tests/integration/test_outbox_stateful.py",
            "tests/integration/test_outbox_grace.py",
        ),
    ),
    Mutant(
        "expiry ignored",
        "schema.sql",
        "where o.id = any (ids) and o.status = 'queued' and o.expires_at <= at order by o.id for no key update skip locked),",
        "where false order by o.id for no key update skip locked),",
        ("tests/integration/test_outbox_claim.py",),
    ),
    Mutant(
        "what left is taken for unsent",
        "waemitter/whatsapp/client.py",
        "return NoAnswer(_reason(error.__cause__))",
        "return NotSent(_reason(error.__cause__))",
        ("tests/unit/test_whatsapp_client_faults.py",),
    ),
    Mutant(
        "a write that went nowhere is taken for sent",
        "waemitter/whatsapp/wire.py",
        "            raise NotConnected from aiohttp.ServerDisconnectedError()",
        "            raise aiohttp.ServerDisconnectedError",
        ("tests/unit/test_whatsapp_client_faults.py", "-k", "before_the_write"),
    ),
    Mutant(
        "what moves on is counted again",
        "schema.sql",
        "select campaign_id, status, -1 from before",
        "select campaign_id, status, 0 from before",
        ("tests/integration/test_queue_counts.py", "-k", "forgotten"),
    ),
    Mutant(
        "the last minute is added up at once",
        "schema.sql",
        "where c.at < clock_timestamp() - interval '2 minutes'",
        "where c.at < clock_timestamp()",
        ("tests/integration/test_queue_counts.py", "-k", "forgotten"),
    ),
    Mutant(
        "an attempt that failed does not tell when it began",
        "schema.sql",
        "'attempt', attempts, 'claimed_at', claimed_at,",
        "'attempt', attempts,",
        ("tests/integration/test_tracing.py", "-k", "attempt"),
    ),
    Mutant(
        "a claim counts nothing after what it took",
        "schema.sql",
        "perform set_config('waemitter.untold', '', true);",
        "",
        ("tests/integration/test_queue_counts.py", "-k", "beside"),
    ),
    Mutant(
        "a plan for an empty table is kept for a full one",
        "schema.sql",
        "    discard plans;",
        "    null;",
        ("tests/integration/test_turn_plans.py", "-k", "end_to_end"),
    ),
    Mutant(
        "an answer that never ends is waited for",
        "waemitter/whatsapp/wire.py",
        "                transport.abort()",
        "                continue",
        ("tests/unit/test_whatsapp_client_faults.py", "-k", "trickles or of_its_own"),
    ),
    Mutant(
        "who is answered and asks at once is forgotten",
        "waemitter/runtime/together.py",
        "            self._asking.discard(asyncio.current_task())",
        "            asyncio.get_running_loop().call_soon(self._asking.discard, asyncio.current_task())",
        ("tests/unit/test_together.py", "-k", "at_once"),
    ),
)
