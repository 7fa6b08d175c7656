"""Seeded defects of all else: migrations, jobs, alerts, events, the API, addresses."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "LISTEN after the ring",
        "waemitter/runtime/doorbell.py",
        "            self.ring_all()  # LISTEN",
        "            #",
        ("tests/integration/test_doorbell.py",),
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
