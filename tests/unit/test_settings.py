from datetime import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.settings import Dsn, Settings, load, missing_to_run

DAY = 86_400.0


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def revealed(secret):
    return secret.get_secret_value()


def settings(environ=None, **options) -> Settings:
    return load(environ=environ or {}, config=None, **options).settings


def lookup(tree, name):
    for part in name.split("."):
        tree = getattr(tree, part)
    return tree


def write(text):
    Path("waemitter.toml").write_text(text)


# The values of the published table.
@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("database.url", None),
        ("database.listen_url", None),
        ("database.pool_size", 8),
        ("whatsapp.access_token", None),
        ("whatsapp.app_secrets", ()),
        ("whatsapp.api_url", "https://graph.facebook.com/v24.0"),
        ("outbox.send_enabled", True),
        ("outbox.max_attempts", 5),
        ("outbox.retry_delays", (60, 120, 240, 480, 960)),
        ("outbox.batch_size", 500),
        ("outbox.concurrency", 1000),
        ("outbox.lease", 15),
        ("outbox.request_timeout", 10),
        ("outbox.connect_timeout", 5),
        ("outbox.unconfirmed_grace", 60),
        ("outbox.unconfirmed_policy", "retry"),
        ("outbox.sweep_interval", 60),
        ("channel.messages_per_second", None),
        ("channel.pair_seconds", None),
        ("channel.pair_burst", None),
        ("inbox.buffer_mode", "fixed"),
        ("inbox.buffer_duration", 30),
        ("inbox.buffer_max_size", 50),
        ("inbox.buffer_max_age", 300),
        ("inbox.sweep_interval", 10),
        ("inbox.lock_lease", 120),
        ("turns.forward_timeout", 4),
        ("turns.max_attempts", 3),
        ("turns.enhanced", True),
        ("turns.contact_rate", 20),
        ("sessions.ttl", DAY),
        ("dlq.interval", 300),
        ("dlq.batch_size", 50),
        ("dlq.retry_delays", (120, 240, 480)),
        ("dlq.max_retries", 3),
        ("retention.dead_letters", 7 * DAY),
        ("retention.buffers", 30 * DAY),
        ("retention.job_runs", 7 * DAY),
        ("retention.webhook_logs", 30 * DAY),
        ("retention.outbox", 90 * DAY),
        ("retention.cleanup_at", time(2)),
        ("http.host", "127.0.0.1"),
        ("http.port", 8080),
        ("http.admin_port", None),
        ("http.api_keys", ()),
        ("slo.p95", 1.2),
        ("slo.cold_start", 1.75),
        ("alerts.stuck", 5),
        ("alerts.dead_letters", 10),
        ("alerts.p95", 2),
        ("logging.level", "info"),
        ("logging.format", "auto"),
        ("grace", 30),
    ],
)
def test_defaults(name, default):
    assert lookup(settings(), name) == default


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("ENABLE_WA_SEND", "false", "outbox.send_enabled", False),
        ("WORKER_MAX_ATTEMPTS", "3", "outbox.max_attempts", 3),
        ("WORKER_BATCH_SIZE", "20", "outbox.batch_size", 20),
        ("MESSAGE_BUFFER_DURATION_MS", "15000", "inbox.buffer_duration", 15),
        ("MAX_BUFFER_SIZE", "7", "inbox.buffer_max_size", 7),
        ("MAX_BUFFER_AGE_MS", "60000", "inbox.buffer_max_age", 60),
        ("BUFFER_PROCESSING_INTERVAL_MS", "2500", "inbox.sweep_interval", 2.5),
        ("WA_ROUTER_TIMEOUT_MS", "900", "turns.forward_timeout", 0.9),
        ("WA_ENHANCED_PROCESSING", "false", "turns.enhanced", False),
        ("SESSION_TTL_HOURS", "12", "sessions.ttl", DAY / 2),
        ("WAEMITTER_CLEANUP_AT", "03:30", "retention.cleanup_at", time(3, 30)),
        ("WA_CORE_P95_SLO_MS", "1500", "slo.p95", 1.5),
        ("WA_CORE_COLD_START_SLO_MS", "57", "slo.cold_start", 0.057),
    ],
)
def test_an_old_name_keeps_its_unit_and_says_so(variable, value, name, expected):
    loaded = load(environ={variable: value}, config=None)

    assert lookup(loaded.settings, name) == expected
    assert loaded.origins[name] == f"old name {variable}"


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "AI_API_KEY"])
def test_the_provider_key_has_two_names(variable):
    assert revealed(settings({variable: "sk-1"}).openai.api_key) == "sk-1"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WORKER_SECRET": "a"}, {"a": {"trigger", "jobs"}}),
        ({"WEBHOOK_SECRET": "a,b="}, {"a,b=": {"trigger", "jobs"}}),
        (
            {"CRON_SECRET": "a", "SUPABASE_SERVICE_ROLE_KEY": "b"},
            {"a": {"trigger", "jobs"}, "b": {"trigger", "jobs", "admin"}},
        ),
        (
            {"CRON_SECRET": "a", "SUPABASE_SERVICE_ROLE_KEY": "a"},
            {"a": {"trigger", "jobs", "admin"}},
        ),
        (
            {"WAEMITTER_HTTP__API_KEYS": "a=send+read, Zm9v==jobs"},
            {"a": {"send", "read"}, "Zm9v=": {"jobs"}},
        ),
        ({"WAEMITTER_HTTP__API_KEYS": "a=send", "WORKER_SECRET": "b"}, {"a": {"send"}}),
    ],
)
def test_api_keys(environ, expected):
    keys = settings(environ).http.api_keys

    assert {key.secret.get_secret_value(): set(key.scopes) for key in keys} == expected


def test_the_new_name_wins_over_the_old_one_which_is_reported():
    environ = {"WAEMITTER_OUTBOX__BATCH_SIZE": "100", "WORKER_BATCH_SIZE": "20"}
    loaded = load(environ=environ, config=None)

    assert loaded.settings.outbox.batch_size == 100
    assert loaded.unused == {"WORKER_BATCH_SIZE": "WAEMITTER_OUTBOX__BATCH_SIZE is set and wins"}


def test_command_line_then_environment_then_file_then_default():
    write("[http]\nhost = '10.0.0.1'\nport = 1\nadmin_port = 9\n")
    loaded = load(
        environ={"WAEMITTER_HTTP__PORT": "2", "WAEMITTER_HTTP__HOST": "10.0.0.2"},
        config=None,
        overrides={"http.port": 3, "http.admin_port": None},
    )

    http = loaded.settings.http
    assert (http.host, http.port, http.admin_port) == ("10.0.0.2", 3, 9)
    assert {name: loaded.origins[name] for name in loaded.origins if "http." in name} == {
        "http.host": "environment WAEMITTER_HTTP__HOST",
        "http.port": "command line",
        "http.admin_port": "waemitter.toml",
        "http.tls_cert": "default",
        "http.tls_key": "default",
        "http.api_keys": "default",
        "http.rate_limit": "default",
        "http.read_only": "default",
    }


def test_an_old_name_in_the_environment_still_comes_before_the_file():
    write("[outbox]\nbatch_size = 1\n")

    assert settings({"WORKER_BATCH_SIZE": "20"}).outbox.batch_size == 20


def test_the_named_file_comes_before_the_variable_before_the_working_directory(tmp_path):
    for name in ("waemitter", "named", "given"):
        (tmp_path / f"{name}.toml").write_text(f"[http]\nhost = '{name}'\n")
    environ = {"WAEMITTER_CONFIG": "named.toml"}

    assert settings().http.host == "waemitter"
    assert settings(environ).http.host == "named"
    given_file = load(environ=environ, config=tmp_path / "given.toml")
    assert given_file.settings.http.host == "given"
    assert given_file.file == tmp_path / "given.toml"


def test_an_empty_variable_counts_as_not_set():
    assert settings({"WAEMITTER_HTTP__PORT": "", "WHATSAPP_ACCESS_TOKEN": ""}) == settings()


@pytest.mark.parametrize(
    ("written", "base", "phone_number_id"),
    [
        (
            "https://graph.facebook.com/v18.0/1234/messages",
            "https://graph.facebook.com/v18.0",
            "1234",
        ),
        ("https://graph.facebook.com/v18.0/1234/", "https://graph.facebook.com/v18.0", "1234"),
        ("https://graph.facebook.com/v23.0/", "https://graph.facebook.com/v23.0", None),
        ("http://127.0.0.1:8090", "http://127.0.0.1:8090/v24.0", None),
        ("https://proxy.test/meta/v24.0", "https://proxy.test/meta/v24.0", None),
    ],
)
def test_the_graph_url_in_its_forms(written, base, phone_number_id):
    whatsapp = settings({"WHATSAPP_API_URL": written}).whatsapp

    assert (whatsapp.api_url, whatsapp.phone_number_id) == (base, phone_number_id)


def test_a_phone_number_id_of_its_own_wins_over_the_one_in_the_url():
    url = "https://graph.facebook.com/v18.0/1234/messages"
    environ = {"WHATSAPP_API_URL": url, "WHATSAPP_PHONE_NUMBER_ID": "5678"}

    assert settings(environ).channels[0].phone_number_id == "5678"


@pytest.mark.parametrize("variable", ["PGHOST", "PGDATABASE", "PGSERVICE"])
def test_libpq_variables_configure_the_database(variable):
    loaded = load(environ={variable: "x"}, config=None)

    assert loaded.settings.database.url is None
    assert loaded.settings.database.configured
    assert loaded.origins["database.url"] == f"environment {variable}"
    assert not settings().database.configured


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"WHATSAPP_ACCESS_TOKEN_FILE": "secret"}, "whatsapp.access_token"),
        ({"AI_API_KEY_FILE": "secret"}, "openai.api_key"),
    ],
)
def test_a_secret_may_lie_in_a_file(working_directory, environ, name):
    (working_directory / "secret").write_text("t0ken\n")
    loaded = load(environ=environ, config=None)

    assert lookup(loaded.settings, name).get_secret_value() == "t0ken"
    assert loaded.origins[name] == f"file secret ({next(iter(environ))})"


def test_a_secret_file_in_toml_lies_beside_the_toml(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "token").write_text("t0ken")
    (tmp_path / "etc" / "w.toml").write_text("[whatsapp]\naccess_token_file = 'token'\n")

    whatsapp = load(environ={}, config=tmp_path / "etc" / "w.toml").settings.whatsapp
    assert revealed(whatsapp.access_token) == "t0ken"


CHANNELS = """
[channel]
messages_per_second = 50
[[channels]]
name = "shop"
phone_number_id = 111
access_token_env = "SHOP_TOKEN"
app_secret_env = "SHOP_SECRETS"
messages_per_second = 80
unconfirmed_policy = "hold"
[[channels]]
name = "desk"
phone_number_id = "222"
"""


def test_channel_tables_inherit_what_they_leave_out():
    write(CHANNELS)
    environ = {"SHOP_TOKEN": "s", "SHOP_SECRETS": "a,b", "WHATSAPP_ACCESS_TOKEN": "t"}
    shop, desk = settings(environ).channels

    assert (shop.name, shop.phone_number_id, shop.messages_per_second) == ("shop", "111", 80)
    assert [each.get_secret_value() for each in shop.app_secrets] == ["a", "b"]
    assert (revealed(shop.access_token), shop.unconfirmed_policy) == ("s", "hold")
    assert (desk.name, desk.phone_number_id, desk.messages_per_second) == ("desk", "222", 50)
    assert (revealed(desk.access_token), desk.unconfirmed_policy) == ("t", "retry")


def test_a_channel_may_have_a_verify_token_of_its_own(tmp_path):
    (tmp_path / "desk").write_text("d\n")
    write(
        "[[channels]]\nname = 'shop'\nverify_token_env = 'SHOP_VERIFY'\n"
        "[[channels]]\nname = 'desk'\nverify_token_file = 'desk'\n"
        "[[channels]]\nname = 'lost'\nverify_token_env = 'LOST_VERIFY'\n"
        "[[channels]]\nname = 'rest'\n"
    )
    channels = settings({"SHOP_VERIFY": "s", "WHATSAPP_VERIFY_TOKEN": "t"}).channels
    assert [each.verify_token and revealed(each.verify_token) for each in channels] == [
        *("s", "d", None, "t")
    ]


def test_a_channel_never_borrows_a_token_for_the_one_it_names():
    write(CHANNELS)
    found = settings({"WHATSAPP_ACCESS_TOKEN": "t", "PGHOST": "h"})

    assert found.channels[0].access_token is None
    assert missing_to_run(found) == (
        (
            "channel 'shop' has no access token: set SHOP_TOKEN, "
            "or WAEMITTER_OUTBOX__SEND_ENABLED=false for a dry run"
        ),
    )


def test_a_daemon_is_told_what_it_needs_and_a_dry_run_needs_the_database_alone():
    assert [line.split(":")[0] for line in missing_to_run(settings())] == [
        "DATABASE_URL is not set, nor are libpq's PGHOST, PGDATABASE or PGSERVICE",
        "channel 'default' has no access token",
        "channel 'default' has no number",
    ]
    assert missing_to_run(settings({"ENABLE_WA_SEND": "false", "PGHOST": "h"})) == ()


SECRETS = {
    "DATABASE_URL": "postgresql://app:s3cret@db/app",
    "WAEMITTER_DATABASE__LISTEN_URL": "postgresql://app@db/app?password=s3cret",
    "WHATSAPP_ACCESS_TOKEN": "s3cret",
    "WHATSAPP_APP_SECRET": "s3cret,s3cret2",
    "WHATSAPP_VERIFY_TOKEN": "s3cret",
    "WAEMITTER_HTTP__API_KEYS": "s3cret=send",
    "OPENAI_API_KEY": "s3cret",
    "WAEMITTER_ALERTS__WEBHOOK_URL": "https://hooks.test/s3cret",
    "WORKER_SECRET": "s3cret",
}


def test_no_representation_gives_a_secret_away():
    loaded = load(environ=SECRETS, config=None)

    for shown in (repr(loaded), str(loaded.settings), str(loaded.settings.model_dump())):
        assert "s3cret" not in shown
    assert "s3cret" not in loaded.settings.model_dump_json()


@given(st.text(alphabet="ab@/:?#&=%+", max_size=12))
def test_a_dsn_hides_any_password(inner):
    dsn = Dsn(f"postgresql://app:XX{inner}XX@db:5432/app")

    assert "XX" not in f"{dsn} {dsn!r}"
    assert dsn.get_secret_value().count("XX") == 2
