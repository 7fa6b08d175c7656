import ast
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.observing import Attempt, observing
from waemitter.observe import (
    agent_events,
    alert_events,
    channel_events,
    circuit_events,
    database_events,
    desk_events,
    event_events,
    field_events,
    job_events,
    journal_events,
    outbox_events,
    turn_events,
)
from waemitter.observe import events as events_module
from waemitter.observe.events import Accepted, Events
from waemitter.observe.logging import LIBRARY_EVENT

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "observability.md").read_text()
TIMESTAMP = "2026-07-01T09:30:00.123456Z"

CORRELATION = "8f14e45f-ceea-467f-a0e6-b5c1d2a3f4e5"
ATTEMPT = Attempt(
    channel="default",
    message_id=1017,
    correlation_id=CORRELATION,
    attempt=1,
)


def lost_and_back(events: Events) -> None:
    events.database_away = True
    events.database_back()


SAMPLES: dict[str, Callable[[Events], None]] = {
    "daemon_started": lambda e: e.daemon_started(
        address="http://127.0.0.1:8080",
        version="0.1.0",
        channels=["default"],
        agents={"assistant": ["order_status"]},
    ),
    "daemon_ready": lambda e: e.daemon_ready(took=0.412, promised=1.75),
    "daemon_drained": lambda e: e.daemon_drained(took=1.204),
    "daemon_crashed": lambda e: e.daemon_crashed(
        error="KeyError: 'slot'", where="run, line 110 of sender.py"
    ),
    "grace_ran_out": lambda e: e.grace_ran_out(),
    "loop_lag_measured": lambda e: e.loop_lag_measured(lag=0.183),
    "loops_stalled": lambda e: e.loops_stalled(loops=["sender"]),
    "gear_changed": lambda e: e.gear_changed(gear="patrol"),
    "database_lost": lambda e: e.database_lost(error="ConnectionRefusedError"),
    "database_back": lost_and_back,
    "snapshot_sampled": lambda e: e.snapshot_sampled(seconds=0.0),
    "snapshot_held": lambda e: e.snapshot_held(
        holder="session 4711 (nightly report)", seconds=120.4, transactions=48_203
    ),
    "snapshot_released": lambda e: e.snapshot_released(
        holder="session 4711 (nightly report)", seconds=614.2
    ),
    "listener_connected": lambda e: e.listener_connected(reconnect=False),
    "listener_lost": lambda e: e.listener_lost(error="ConnectionDoesNotExistError"),
    "desk_answered": lambda e: e.desk_answered(channel="support", conversation_id=7, messages=1),
    "desk_moved": lambda e: e.desk_moved(channel="support", human=True),
    "template_changed": lambda e: e.template_changed(
        channel="default",
        template="cart_reminder",
        language="en_US",
        state="paused",
        word="PAUSED",
        messages=0,
    ),
    "template_judged": lambda e: e.template_judged(
        template="cart_reminder",
        language="en_US",
        aspect="quality",
        before="GREEN",
        after="YELLOW",
        warning=True,
    ),
    "templates_barred": lambda e: e.templates_barred(
        channel="default",
        word="ACCOUNT_RESTRICTION RESTRICTED_BIZ_INITIATED_MESSAGING",
        until="2026-07-04T09:30:00+00:00",
    ),
    "number_judged": lambda e: e.number_judged(
        channel="default", word="THROUGHPUT_UPGRADE", quality=None, tier="TIER_UNLIMITED"
    ),
    "account_alert": lambda e: e.account_alert(word="ACCOUNT_VIOLATION SCAM", severity="WARNING"),
    "opt_out_heard": lambda e: e.opt_out_heard(channel="default", wish="stop", scope="all"),
    "colleague_wrote": lambda e: e.colleague_wrote(conversation_id=7, message_type="text"),
    "history_imported": lambda e: e.history_imported(messages=212, word="phase 0, 55 %"),
    "field_heard": lambda e: e.field_heard(kind="call", word=None),
    "outbox_sampled": lambda e: e.outbox_sampled(
        channel="default", messages={"queued": 12}, oldest_due_age=0.25, tokens=1, paused=None
    ),
    "batch_claimed": lambda e: e.batch_claimed(channel="default", rows=16, routine=False),
    "slot_awaited": lambda e: e.slot_awaited(channel="default", wait=0.0125),
    "message_sent": lambda e: e.message_sent(**ATTEMPT, took=0.084123, pickup=0.003871),
    "retry_scheduled": lambda e: e.retry_scheduled(
        **ATTEMPT, error_class="RETRY", error_code=131016, delay=63.2
    ),
    "failed_permanently": lambda e: e.failed_permanently(
        **ATTEMPT, error_class="FAIL", error_code=131026, reason="Message undeliverable"
    ),
    "unconfirmed": lambda e: e.unconfirmed(**ATTEMPT, reason="no answer within 10 s"),
    "unconfirmed_resolved": lambda e: e.unconfirmed_resolved(resolution="confirmed", count=1),
    "lease_expired": lambda e: e.lease_expired(channel="default", count=16),
    "settled_stale": lambda e: e.settled_stale(channel="default", count=1),
    "channel_unknown": lambda e: e.channel_unknown(count=3),
    "slot_missed": lambda e: e.slot_missed(channel="default", count=2),
    "delivery_failed": lambda e: e.delivery_failed(
        **ATTEMPT, error_class="FAIL", error_code=131026, delay=None
    ),
    "letters_sampled": lambda e: e.letters_sampled({("outbound", "abandoned"): 3}),
    "channel_paused": lambda e: e.channel_paused(
        channel="default", reason="THROTTLE_APP", seconds=60
    ),
    "channel_probed": lambda e: e.channel_probed(
        channel="default", sends=False, detail="BLOCKED; WABA: Payment issue"
    ),
    "token_expires": lambda e: e.token_expires(channel="default", days=6.5),
    "template_held": lambda e: e.template_held(
        channel="default", template="order_shipped", reason="Template is paused"
    ),
    "channel_resumed": lambda e: e.channel_resumed(channel="default"),
    "webhook_verified": lambda e: e.webhook_verified(),
    "webhook_accepted": lambda e: e.webhook_accepted(source="whatsapp", bytes=731, took=0.004217),
    "webhooks_accepted": lambda e: e.webhooks_accepted(
        [Accepted(731, 0.004217, "8d3f"), Accepted(694, 0.003881, "b01c")], source="whatsapp"
    ),
    "webhook_rejected": lambda e: e.webhook_rejected(source="whatsapp", reason="bad_signature"),
    "webhook_processed": lambda e: e.webhook_processed(count=4, took=0.011402),
    "items_handled": lambda e: e.items_handled(kinds={"status": 37, "message": 1, "duplicate": 2}),
    "number_unknown": lambda e: e.number_unknown(count=1),
    "webhook_item_failed": lambda e: e.webhook_item_failed(error="DataError"),
    "webhook_malformed": lambda e: e.webhook_malformed(reason="statuses[2].id is missing"),
    "status_heard": lambda e: e.status_heard(
        status="failed",
        message_id=1017,
        correlation_id="8f14e45f-ceea-467f-a0e6-b5c1d2a3f4e5",
        error_code=131026,
    ),
    "statuses_applied": lambda e: e.statuses_applied(
        {("delivered", "applied"): 35, ("sent", "stale"): 2}
    ),
    "media_stored": lambda e: e.media_stored(
        channel="default", media=12, bytes=301544, took=0.412345
    ),
    "media_retried": lambda e: e.media_retried(
        channel="default",
        media=12,
        attempt=1,
        error="Meta's address of the file answered 404",
        delay=5.1,
    ),
    "media_failed": lambda e: e.media_failed(
        channel="default",
        media=12,
        attempt=7,
        error="what arrived has another digest than Meta told",
    ),
    "media_expired": lambda e: e.media_expired(count=31),
    "media_sweep_failed": lambda e: e.media_sweep_failed(error="Permission denied"),
    "spool_begun": lambda e: e.spool_begun(),
    "spool_measured": lambda e: e.spool_measured(bytes=301544),
    "spool_drained": lambda e: e.spool_drained(count=412),
    "spool_damaged": lambda e: e.spool_damaged(
        file="01795300000000000000-5f0c21aa.spool", bytes=731, refused=0
    ),
    "circuit_changed": lambda e: e.circuit_changed(target="http://127.0.0.1:9000", state="open"),
    "agent_called": lambda e: e.agent_called(
        agent="assistant", outcome="ok", took=1.8342, input_tokens=412, output_tokens=58
    ),
    "agent_retried": lambda e: e.agent_retried(
        agent="assistant", fault="rate_limited", reason="the endpoint answered 429", delay=2.0
    ),
    "agent_tool_called": lambda e: e.agent_tool_called(
        agent="assistant", tool="order_status", outcome="ok", took=0.044
    ),
    "agent_reviewed": lambda e: e.agent_reviewed(
        agent="assistant", result="rewritten", took=0.8127
    ),
    "agent_answered": lambda e: e.agent_answered(
        agent="assistant", conversation_id=3, variant="default", took=1.8518, dropped=0
    ),
    "agent_unanswered": lambda e: e.agent_unanswered(
        agent="assistant",
        conversation_id=3,
        failure="circuit_open",
        reason="api.openai.com failed too often just now",
        instead="text",
    ),
    "agent_over_budget": lambda e: e.agent_over_budget(
        agent="assistant", conversation_id=3, budget="contact"
    ),
    "jobs_known": lambda e: e.jobs_known(jobs=["retention"], succeeded={"retention": 1795300000.0}),
    "job_started": lambda e: e.job_started(job="retention", run_id=7, reason="schedule"),
    "job_succeeded": lambda e: e.job_succeeded(
        job="retention", run_id=7, took=1.204, at=1795300000.0
    ),
    "job_failed": lambda e: e.job_failed(job="retention", run_id=7, error="DataError"),
    "job_cut_short": lambda e: e.job_cut_short(job="retention", run_id=7),
    "job_schedule_invalid": lambda e: e.job_schedule_invalid(
        job="retention", reason="the interval '0s' is nothing: write 1s or more"
    ),
    "dlq_started": lambda e: e.dlq_started(),
    "dlq_completed": lambda e: e.dlq_completed(
        processed=5, successful=4, failed=1, abandoned=0, took=1.234
    ),
    "dlq_message_processed": lambda e: e.dlq_message_processed(
        letter_id=12, stage="split", retries=1, correlation_id="order-17", successful=True
    ),
    "dlq_message_abandoned": lambda e: e.dlq_message_abandoned(
        letter_id=12, stage="split", retries=3, correlation_id="order-17"
    ),
    "session_cleanup_started": lambda e: e.session_cleanup_started(),
    "session_cleanup_completed": lambda e: e.session_cleanup_completed(
        sessions=42, letters=15, took=0.234
    ),
    "retention_completed": lambda e: e.retention_completed(deleted=120413, took=61.2),
    "buffer_opened": lambda e: e.buffer_opened(buffer_id=71, conversation_id=12),
    "messages_rate_limited": lambda e: e.messages_rate_limited(count=5),
    "buffers_sampled": lambda e: e.buffers_sampled(
        {"open": 14, "processing": 2, "failed": 1}, stuck=0
    ),
    "buffer_flushed": lambda e: e.buffer_flushed(
        turn_id=71,
        conversation_id=12,
        reason="time",
        messages=3,
        late=0.004,
        correlation_id=CORRELATION,
    ),
    "route_decided": lambda e: e.route_decided(
        turn_id=71, route="rides", reason="the keyword 'taxi'", correlation_id=CORRELATION
    ),
    "typing_refused": lambda e: e.typing_refused(status=400),
    "turn_ended": lambda e: e.turn_ended(
        turn_id=71,
        route="rides",
        outcome="answered",
        attempt=1,
        took=0.183201,
        correlation_id=CORRELATION,
    ),
    "turn_retried": lambda e: e.turn_retried(
        turn_id=71,
        route="rides",
        stage="handler",
        error="HandlerFailed",
        attempt=1,
        delay=1.04,
        correlation_id=CORRELATION,
    ),
    "turn_failed": lambda e: e.turn_failed(
        turn_id=71,
        route="rides",
        stage="handler",
        error="HandlerFailed",
        letter_id=9,
        took=4.0,
        correlation_id=CORRELATION,
    ),
    "subscription_served": lambda e: e.subscription_served(
        subscription="shop", kind="webhook", types=["message.sent"], changed=True
    ),
    "subscriptions_orphaned": lambda e: e.subscriptions_orphaned(subscriptions=["former"]),
    "subscription_disabled": lambda e: e.subscription_disabled(
        subscription="shop", reason="failing"
    ),
    "event_not_delivered": lambda e: e.event_not_delivered(
        subscription="shop",
        event_id="5f0c2d0e-6a53-4f0c-9df1-1b2d7d0a9f11",
        event_type="message.sent",
        attempt=2,
        outcome="failed",
        trouble="the receiver answered 503",
    ),
    "event_delivered": lambda e: e.event_delivered(
        subscription="shop",
        event_id="5f0c2d0e-6a53-4f0c-9df1-1b2d7d0a9f11",
        event_type="message.sent",
        attempt=1,
        age=0.031,
    ),
    "events_given_up": lambda e: e.events_given_up(subscription="shop", count=1),
    "alert_fired": lambda e: e.alert_fired(
        alert="WaemitterChannelPaused",
        severity="page",
        labels={"channel": "default", "reason": "pause_account"},
    ),
    "alert_resolved": lambda e: e.alert_resolved(
        alert="WaemitterChannelPaused", labels={"channel": "default", "reason": "pause_account"}
    ),
    "alerts_sent": lambda e: e.alerts_sent(count=2),
    "alert_not_sent": lambda e: e.alert_not_sent(
        alert="WaemitterChannelPaused", reason="the receiver answered 502"
    ),
    "request_failed": lambda e: e.request_failed(
        route="/metrics", error="KeyError", where="app.py:69 in _exposition.<locals>.expose"
    ),
}


def sample_line(call: Callable[[Events], None]) -> str:
    with observing() as observed:
        call(observed.events)
    (line,) = observed.text().splitlines()
    return re.sub(r'(?<="timestamp":")[^"]+', TIMESTAMP, line)


def test_every_event_has_a_sample_here():
    methods = {
        name
        for name, _ in inspect.getmembers(Events, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods == SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_docs_show_what_the_event_really_logs(name):
    line = sample_line(SAMPLES[name])
    assert line in DOCS.splitlines()
    assert f"| `{json.loads(line)['event']}` |" in DOCS


def test_the_docs_know_no_event_that_is_gone():
    literals = {
        node.value
        for module in (
            events_module,
            agent_events,
            alert_events,
            outbox_events,
            journal_events,
            job_events,
            channel_events,
            turn_events,
            circuit_events,
            event_events,
            database_events,
            desk_events,
            field_events,
        )
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    documented = set(re.findall(r"^\| `([A-Z]+(?:_[A-Z]+)+)` \|", DOCS, re.MULTILINE))
    assert documented - {LIBRARY_EVENT} <= literals


def test_the_docs_name_exactly_the_metrics_that_exist_with_their_labels():
    with observing() as observed:
        SAMPLES["daemon_started"](observed.events)
        SAMPLES["circuit_changed"](observed.events)
        SAMPLES["subscription_served"](observed.events)
    exposed: dict[str, set[str]] = {}
    for family in observed.metrics.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exposed[name] = labels
    documented = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(
            r"^\| `(waemitter_\w+)` \| \w+ \| ([^|]*) \|", DOCS, re.MULTILINE
        )
    }
    assert documented == exposed
