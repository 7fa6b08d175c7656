from pathlib import Path

import pytest

from waemitter.settings import ENTRIES
from waemitter.settings.reference import render_reference

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
REWRITE = (
    "docs/configuration.md is behind the model; write it anew with: python -c 'from pathlib import"
    " Path; from waemitter.settings.reference import render_reference as render;"
    ' Path("docs/configuration.md").write_text(render(), encoding="utf-8")\''
)

# The published names, by hand: the model could lose one and the page would follow it.
PUBLISHED = [
    "DATABASE_URL",
    "WAEMITTER_DATABASE__LISTEN_URL",
    "WAEMITTER_DATABASE__POOL_SIZE",
    "WHATSAPP_ACCESS_TOKEN",
    "WHATSAPP_PHONE_NUMBER_ID",
    "WHATSAPP_APP_SECRET",
    "WHATSAPP_VERIFY_TOKEN",
    "WHATSAPP_API_URL",
    "WAEMITTER_OUTBOX__SEND_ENABLED",
    "ENABLE_WA_SEND",
    "WAEMITTER_OUTBOX__MAX_ATTEMPTS",
    "WORKER_MAX_ATTEMPTS",
    "WAEMITTER_OUTBOX__RETRY_DELAYS",
    "WAEMITTER_OUTBOX__BATCH_SIZE",
    "WORKER_BATCH_SIZE",
    "WAEMITTER_OUTBOX__LEASE",
    "WAEMITTER_OUTBOX__REQUEST_TIMEOUT",
    "WAEMITTER_OUTBOX__UNCONFIRMED_GRACE",
    "WAEMITTER_OUTBOX__UNCONFIRMED_POLICY",
    "WAEMITTER_OUTBOX__UNDELIVERED_POLICY",
    "WAEMITTER_OUTBOX__SWEEP_INTERVAL",
    "WAEMITTER_CHANNEL__MESSAGES_PER_SECOND",
    "WAEMITTER_CHANNEL__PAIR_SECONDS",
    "WAEMITTER_INBOX__SPOOL_DIR",
    "WAEMITTER_INBOX__SPOOL_MAX_BYTES",
    "WAEMITTER_INBOX__BUFFER_MODE",
    "WAEMITTER_INBOX__BUFFER_DURATION",
    "WAEMITTER_INBOX__BUFFER_MAX_SIZE",
    "WAEMITTER_INBOX__BUFFER_MAX_AGE",
    "WAEMITTER_INBOX__SWEEP_INTERVAL",
    "WAEMITTER_INBOX__LOCK_LEASE",
    "MESSAGE_BUFFER_DURATION_MS",
    "MAX_BUFFER_SIZE",
    "MAX_BUFFER_AGE_MS",
    "BUFFER_PROCESSING_INTERVAL_MS",
    "WAEMITTER_MEDIA__DIRECTORY",
    "WAEMITTER_MEDIA__S3_BUCKET",
    "WAEMITTER_MEDIA__MAX_BYTES",
    "WAEMITTER_MEDIA__KEEP",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "WAEMITTER_TURNS__FORWARD_TIMEOUT",
    "WAEMITTER_TURNS__TIMEOUT",
    "WAEMITTER_TURNS__CONCURRENCY",
    "WAEMITTER_TURNS__MAX_ATTEMPTS",
    "WAEMITTER_TURNS__ENHANCED",
    "WAEMITTER_TURNS__CONTACT_RATE",
    "WA_ROUTER_TIMEOUT_MS",
    "WA_ENHANCED_PROCESSING",
    "WAEMITTER_SESSIONS__TTL",
    "SESSION_TTL_HOURS",
    "WAEMITTER_DLQ__INTERVAL",
    "WAEMITTER_DLQ__BATCH_SIZE",
    "WAEMITTER_DLQ__RETRY_DELAYS",
    "WAEMITTER_DLQ__MAX_RETRIES",
    "WAEMITTER_RETENTION__DEAD_LETTERS",
    "WAEMITTER_RETENTION__BUFFERS",
    "WAEMITTER_RETENTION__JOB_RUNS",
    "WAEMITTER_RETENTION__WEBHOOK_LOGS",
    "WAEMITTER_RETENTION__OUTBOX",
    "WAEMITTER_RETENTION__INBOUND",
    "WAEMITTER_RETENTION__AGENTS",
    "WAEMITTER_RETENTION__AUDIT",
    "WAEMITTER_RETENTION__CLEANUP_AT",
    "WAEMITTER_CLEANUP_AT",
    "WAEMITTER_HTTP__HOST",
    "WAEMITTER_HTTP__PORT",
    "WAEMITTER_HTTP__ADMIN_PORT",
    "WAEMITTER_HTTP__READ_ONLY",
    "WAEMITTER_HTTP__TLS_CERT",
    "WAEMITTER_HTTP__TLS_KEY",
    "WAEMITTER_HTTP__API_KEYS",
    "WORKER_SECRET",
    "WEBHOOK_SECRET",
    "CRON_SECRET",
    "SUPABASE_SERVICE_ROLE_KEY",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "AI_API_KEY",
    "CHATWOOT_BASE_URL",
    "CHATWOOT_API_TOKEN",
    "CHATWOOT_ACCOUNT_ID",
    "CHATWOOT_WEBHOOK_SECRET",
    "WAEMITTER_SLO__P95",
    "WAEMITTER_SLO__COLD_START",
    "WA_CORE_P95_SLO_MS",
    "WA_CORE_COLD_START_SLO_MS",
    "WAEMITTER_ALERTS__WEBHOOK_URL",
    "WAEMITTER_LOGGING__LEVEL",
    "WAEMITTER_LOGGING__FORMAT",
    "WAEMITTER_GRACE",
    "WAEMITTER_TRACING__ENABLED",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
]


def test_the_page_says_what_the_model_says():
    assert PAGE.read_text(encoding="utf-8") == render_reference(), REWRITE


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_name_is_known_and_documented(name):
    assert name in {variable for entry in ENTRIES for variable in entry.variables}
    assert f"`{name}`" in render_reference()


def test_every_setting_is_described_in_a_sentence():
    assert [entry.name for entry in ENTRIES if not entry.description.rstrip().endswith(".")] == []


def test_everything_that_takes_a_secret_is_marked_as_one():
    assert [entry.name for entry in ENTRIES if ("secret" in entry.kind) != entry.secret] == []


def test_only_what_has_an_effect_goes_unmarked():
    effective = {entry.table or entry.name for entry in ENTRIES if not entry.later}

    assert effective == {
        "database",
        "whatsapp",
        "outbox",
        "channel",
        "http",
        "logging",
        "grace",
        "inbox",
        "media",
        "optout",
        "openai",
        "turns",
        "sessions",
        "dlq",
        "chatwoot",
        "retention",
        "slo",
        "alerts",
        "tracing",
    }
    assert not [entry.key for entry in ENTRIES if entry.table == "http" and entry.later]
