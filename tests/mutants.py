"""Seeded defects, each of which some test must catch: `make mutants`.

A copy of the tree gets one defect at a time, and the tests named beside it run there. A mutant that survives says that a
promise is not tested. Names of mutants as arguments run those alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
LEFT_OUT: Final = (
    ".git",
    ".venv",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    "__pycache__",
    ".pytest_cache",
)
PATIENCE: Final = 300  # seconds for the tests of one mutant


@dataclass(frozen=True, slots=True)
class Mutant:
    """`before` stands once in `file`, and becomes `after`; `tests` are a path and, with -k, a part of a name."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


MUTANTS: Final = (
    Mutant(
        "fence dropped",
        "schema.sql",
        "where o.id = g.id and o.token = g.token and case g.outcome",
        "where o.id = g.id and case g.outcome",
        ("tests/integration/test_stale_races.py", "-k", "settles"),
    ),
    Mutant(
        "a stale worker renews a turn",
        "schema.sql",
        "where b.id = turn_id and v.id = b.conversation_id and v.lock_id = renew_turn.lock_id and v.fence = renew_turn.fence;",
        "where b.id = turn_id and v.id = b.conversation_id and v.lock_id = renew_turn.lock_id;",
        ("tests/integration/test_stale_races.py", "-k", "conversations"),
    ),
    Mutant(
        "a stranger releases a conversation",
        "schema.sql",
        "where v.id = release_conversation_lock.conversation_id and v.lock_id = release_conversation_lock.lock_id;",
        "where v.id = release_conversation_lock.conversation_id;",
        ("tests/integration/test_stale_races.py", "-k", "conversations"),
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
        "ack before commit",
        "waemitter/web/webhooks.py",
        "            await self._journal.record(source=SOURCE, body=body, headers=headers)",
        "            self._journal.record(source=SOURCE, body=body, headers=headers).close()",
        ("tests/integration/test_short_way.py",),
    ),
    Mutant(
        "ack before commit by the short way",
        "waemitter/web/webhooks.py",
        "        stored.add_done_callback(partial(self._reply, trace, len(body), reply))",
        "        stored.get_loop().call_soon(reply, answer_of(HTTPStatus.OK, trace.headers(), b''))",
        ("tests/integration/test_short_way.py",),
    ),
    Mutant(
        "a request that two servers read in two ways",
        "waemitter/web/short_way.py",
        "        len(headers) != len(lines)  # one of them came twice",
        "        False",
        ("tests/unit/test_short_way.py",),
    ),
    Mutant(
        "any signature will do",
        "waemitter/whatsapp/signature.py",
        "genuine = hmac.compare_digest(sign(secret, raw).encode(), claimed)",
        "genuine = len(claimed) == 71",
        ("tests/unit/test_whatsapp_signature.py",),
    ),
    Mutant(
        "LISTEN after the ring",
        "waemitter/runtime/doorbell.py",
        "            self.ring_all()  # LISTEN",
        "            #",
        ("tests/integration/test_doorbell.py",),
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
        "a batch of webhooks is not kept",
        "waemitter/inbox/splitter.py",
        "                await self._store.renew(ids, lease=LEASE)",
        "                pass",
        ("tests/integration/test_splitter.py", "-k", "kept_for_as_long"),
    ),
    Mutant(
        "a webhook's keys are not looked at",
        "waemitter/inbox/store.py",
        "on conflict do nothing returning whatsapp_message_id as id, field, scope)",
        "on conflict (whatsapp_message_id, field, scope) do update set scope = excluded.scope"
        " returning whatsapp_message_id as id, field, scope)",
        ("tests/integration/test_inbox_messages.py", "tests/integration/test_splitter.py"),
    ),
    Mutant(
        "a daemon on a schema that left it behind",
        "waemitter/db/schema.py",
        "return state.oldest_daemon is not None and state.oldest_daemon <= VERSION",
        "return state.oldest_daemon is not None",
        ("tests/integration/test_migrations.py", "-k", "runs_on"),
    ),
    Mutant(
        "a migration past a daemon that needs the old",
        "waemitter/db/schema.py",
        "if made_for < oldest",
        "if made_for < 0",
        ("tests/integration/test_migrations.py", "-k", "left_behind"),
    ),
    Mutant(
        "an interrupted index is taken for the index",
        "waemitter/db/schema.py",
        "AND NOT i.indisvalid",
        "AND i.indisvalid AND NOT i.indisvalid",
        ("tests/integration/test_migrations.py", "-k", "interrupted"),
    ),
    Mutant(
        "an alert that is told before it held",
        "schema.sql",
        "and a.since + a.hold <= v_now",
        "and a.since <= v_now",
        ("tests/integration/test_alerts.py", "-k", "held_long_enough"),
    ),
    Mutant(
        "an alert that is told again at once",
        "waemitter/jobs/alerts/store.py",
        "then clock_timestamp() + $2::interval end",
        "then clock_timestamp() end",
        ("tests/integration/test_alerts.py", "-k", "held_long_enough"),
    ),
    Mutant(
        "a read-only API that changes",
        "waemitter/web/api/operation.py",
        'return self.method != "GET" and self.scope != "trigger"',
        "return False",
        ("tests/integration/test_api_frame.py", "-k", "ring"),
    ),
    Mutant(
        "a schedule made by hand is overwritten",
        "waemitter/jobs/store.py",
        "schedule = case when j.default_schedule is null then j.schedule else excluded.schedule end",
        "schedule = excluded.schedule",
        ("tests/integration/test_migrating.py", "-k", "stand"),
    ),
    Mutant(
        "an event overtakes the one before it",
        "schema.sql",
        "where not d.waits and e.available_at <= v_now",
        "where e.available_at <= v_now",
        ("tests/integration/test_event_outbox.py", "-k", "one_by_one"),
    ),
    Mutant(
        "what an event waited for ends unseen",
        "schema.sql",
        "where n.id = w.id and n.available_at = 'infinity';",
        "where false;",
        ("tests/integration/test_event_outbox.py", "-k", "one_by_one"),
    ),
    Mutant(
        "a late outcome of an event counts",
        "schema.sql",
        "where e.attempts = g.attempt and e.available_at is not null",
        "where e.available_at is not null",
        ("tests/integration/test_event_outbox.py", "-k", "fences"),
    ),
    Mutant(
        "a failure that is taken back is told",
        "schema.sql",
        "    group by s.name, m.id) last\n  where e.id = last.id;",
        "    group by s.name, m.id) last\n  where false;",
        ("tests/integration/test_events_told.py", "-k", "taken_back"),
    ),
    Mutant(
        "a name may lead to a cloud's metadata",
        "waemitter/runtime/addresses.py",
        "    if family in {socket.AF_INET, socket.AF_INET6} and refused(",
        "    if family in set[int]() and refused(",
        ("tests/unit/test_addresses.py",),
    ),
)


def run(mutant: Mutant, tree: Path) -> str:
    """`caught`, `SURVIVED`, or why it could not be planted."""
    path = tree / mutant.file
    text = path.read_text()
    if text.count(mutant.before) != 1:
        return f"NOT PLANTED: its place is there {text.count(mutant.before)} times"
    path.write_text(text.replace(mutant.before, mutant.after))
    try:
        tested = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=60", *mutant.tests],
            cwd=tree,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"NOT TESTED: no end within {PATIENCE} s"
    finally:
        path.write_text(text)
    named = [
        line.split(" ")[1].rpartition("::")[2]
        for line in tested.stdout.splitlines()
        if line.startswith("FAILED")
    ]
    if tested.returncode == 1 and named:
        return f"caught by {named[0]}"
    return (
        "SURVIVED"
        if tested.returncode == 0
        else f"NOT TESTED: pytest ended with {tested.returncode}"
    )


def main(wanted: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="waemitter-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for mutant in chosen:
            started = time.monotonic()
            result = run(mutant, tree)
            failed += not result.startswith("caught")
            took = time.monotonic() - started
            sys.stdout.write(f"{mutant.name:<52} {result}  ({took:.0f} s)\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - failed} of {len(chosen)} caught\n")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
