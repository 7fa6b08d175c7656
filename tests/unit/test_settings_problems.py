import pytest

from waemitter.errors import UsageError
from waemitter.settings import InvalidSettings, Settings, load


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(environ=None, **options) -> Settings:
    return load(environ=environ or {}, config=None, **options).settings


def problems(environ=None, **options) -> list[str]:
    with pytest.raises(InvalidSettings) as raised:
        settings(environ, **options)
    return list(raised.value.problems)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"WAEMITTER_OUTBOX__LEESE": "1"},
            "WAEMITTER_OUTBOX__LEESE is not a setting; did you mean WAEMITTER_OUTBOX__LEASE?",
        ),
        (
            {"WAEMITTER_HTTP_PORT": "1"},
            "WAEMITTER_HTTP_PORT is not a setting; did you mean WAEMITTER_HTTP__PORT?",
        ),
        (
            {"WAEMITTER_DATABASE__URL": "x"},
            "WAEMITTER_DATABASE__URL is not a setting; its name is DATABASE_URL",
        ),
        ({"WAEMITTER_QQQ": "x"}, "WAEMITTER_QQQ is not a setting"),
        (
            {"WAEMITTER_HTTP__PORT": "99999"},
            "WAEMITTER_HTTP__PORT must be at most 65535 (it is '99999')",
        ),
        (
            {"WAEMITTER_HTTP__PORT": "http"},
            "WAEMITTER_HTTP__PORT must be a whole number (it is 'http')",
        ),
        ({"ENABLE_WA_SEND": "maybe"}, "ENABLE_WA_SEND must be true or false (it is 'maybe')"),
        (
            {"WAEMITTER_OUTBOX__UNCONFIRMED_POLICY": "drop"},
            "WAEMITTER_OUTBOX__UNCONFIRMED_POLICY must be 'retry' or 'hold' (it is 'drop')",
        ),
        (
            {"WAEMITTER_GRACE": "soon"},
            (
                "WAEMITTER_GRACE must be a duration such as 250ms, 30s, 5m, 2h, 1d "
                "or a number of seconds (it is 'soon')"
            ),
        ),
        (
            {"MAX_BUFFER_AGE_MS": "5m"},
            "MAX_BUFFER_AGE_MS must be a number of milliseconds, such as 30000 (it is '5m')",
        ),
        ({"WAEMITTER_GRACE": "0"}, "WAEMITTER_GRACE must be more than 0 (it is '0')"),
        (
            {"WAEMITTER_OUTBOX__RETRY_DELAYS": ","},
            "WAEMITTER_OUTBOX__RETRY_DELAYS must not be empty (it is ',')",
        ),
        (
            {"WAEMITTER_CHANNEL__MESSAGES_PER_SECOND": "inf"},
            "WAEMITTER_CHANNEL__MESSAGES_PER_SECOND must be a finite number (it is 'inf')",
        ),
        (
            {"WHATSAPP_PHONE_NUMBER_ID": "+14155550123"},
            (
                "WHATSAPP_PHONE_NUMBER_ID must be the digits of the id that Meta shows beside the "
                "phone number (it is '+14155550123')"
            ),
        ),
        (
            {"WHATSAPP_ACCESS_TOKEN": "Bearer abc"},
            "WHATSAPP_ACCESS_TOKEN must be the token alone: no 'Bearer', no blanks, no line breaks",
        ),
        (
            {"WHATSAPP_API_URL": "https://graph.facebook.com/v18.0/PHONE_ID/messages"},
            (
                "WHATSAPP_API_URL must end after /v18.0, or go on with the phone number id's "
                "digits (it is 'https://graph.facebook.com/v18.0/PHONE_ID/messages')"
            ),
        ),
        (
            {"DATABASE_URL": "postgresql+asyncpg://u:s3cret@h/d"},
            (
                "DATABASE_URL must look like postgresql://user:password@host:5432/name, "
                "without '+asyncpg'"
            ),
        ),
        (
            {"DATABASE_URL": "postgresql://u:s3cr:et/x@h/d"},
            (
                "DATABASE_URL has a host or port that cannot be read; in a password write @ as "
                "%40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"
            ),
        ),
        (
            {"WAEMITTER_HTTP__API_KEYS": "a=send,s3cret"},
            (
                "WAEMITTER_HTTP__API_KEYS entry 2 must be secret=scope+scope, the scopes among "
                "trigger, send, campaigns, jobs, read, admin"
            ),
        ),
        (
            {"WHATSAPP_VERIFY_TOKEN": "x", "WHATSAPP_VERIFY_TOKEN_FILE": "y"},
            "WHATSAPP_VERIFY_TOKEN and WHATSAPP_VERIFY_TOKEN_FILE are both set; keep one of them",
        ),
        (
            {"WHATSAPP_VERIFY_TOKEN_FILE": "absent"},
            "WHATSAPP_VERIFY_TOKEN_FILE: cannot read absent: no such file or directory",
        ),
        (
            {"WAEMITTER_OUTBOX__LEASE": "5s", "WAEMITTER_OUTBOX__REQUEST_TIMEOUT": "4.3s"},
            (
                "WAEMITTER_OUTBOX__LEASE (5s) must be more than 5s: "
                "WAEMITTER_OUTBOX__REQUEST_TIMEOUT (4.3s), 200ms until a claimed row's slot and "
                "500ms to write the outcome; else another daemon takes over a row whose request "
                "is still under way"
            ),
        ),
        (
            {"WAEMITTER_HTTP__TLS_CERT": "c.pem"},
            "WAEMITTER_HTTP__TLS_CERT and WAEMITTER_HTTP__TLS_KEY go together; one is missing",
        ),
        (
            {"WAEMITTER_HTTP__ADMIN_PORT": "8080"},
            "WAEMITTER_HTTP__ADMIN_PORT must differ from WAEMITTER_HTTP__PORT (both are 8080)",
        ),
        ({"WAEMITTER_CONFIG": "absent.toml"}, "absent.toml: no such file or directory"),
    ],
)
def test_what_is_wrong_in_the_environment(environ, expected):
    assert problems(environ) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[outbox]\nleese = 1", "[outbox] has no key 'leese'; did you mean lease?"),
        ("[outbx]\nlease = 1", "unknown table [outbx]; did you mean outbox?"),
        ("grase = 1", "unknown key 'grase'; did you mean grace?"),
        ("outbox = 1", "'outbox' must be a table, written [outbox]"),
        ("[[channel]]\nname = 'a'", "'channel' must be a table, written [channel]"),
        ("routes = ['a']", "'routes' must be tables, each written [[routes]]"),
        ("agents = {a = 1}", "'agents' must be tables, each written [agents.<name>]"),
        ("[database]\nfrom_libpq = true", "[database] has no key 'from_libpq'"),
        (
            "[whatsapp]\nverify_token = 'a'\nverify_token_file = 'waemitter.toml'",
            "whatsapp.verify_token and whatsapp.verify_token_file are both set; keep one",
        ),
    ],
)
def test_what_is_wrong_in_the_file(working_directory, text, expected):
    (working_directory / "waemitter.toml").write_text(text)

    assert problems() == [f"waemitter.toml: {expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[http]\nport = 99999", "waemitter.toml: http.port must be at most 65535 (it is 99999)"),
        (
            "[[channels]]\nacess_token_env = 'A'",
            (
                "waemitter.toml: channels[0] has no key 'acess_token_env'; "
                "did you mean access_token_env?"
            ),
        ),
        (
            "[[channels]]\nmessages_per_second = -1",
            "waemitter.toml: channels[0].messages_per_second must be at least 0 (it is -1)",
        ),
        (
            "[[channels]]\n[[channels]]",
            "waemitter.toml: 2 channels have the name 'default'; it must be unique",
        ),
        (
            "[[channels]]\naccess_token_env = 'TOKEN'",
            "TOKEN must be the token alone: no 'Bearer', no blanks, no line breaks",
        ),
    ],
)
def test_what_is_wrong_with_values_and_channels_of_the_file(working_directory, text, expected):
    (working_directory / "waemitter.toml").write_text(text)

    assert problems({"TOKEN": "Bearer s3cret"}) == [expected]


def test_broken_toml_is_told_with_its_place(working_directory):
    (working_directory / "waemitter.toml").write_text("[outbox\n")

    (line,) = problems()
    assert line.startswith("waemitter.toml is not valid TOML: ")
    assert "line 1" in line


def test_every_problem_is_told_at_once(working_directory):
    (working_directory / "waemitter.toml").write_text("[outbox]\nlease = '1s'\nleese = 2\n")
    environ = {"WAEMITTER_HTTP__PORT": "x", "WAEMITTER_QQQ": "1", "SESSION_TTL_HOURS": "1d"}

    told = problems(environ, overrides={"http.prot": 1})
    assert len(told) == 6
    assert all("\n" not in line for line in told)


def test_a_wrong_value_is_not_held_against_others():
    environ = {"WAEMITTER_OUTBOX__LEASE": "soon", "WAEMITTER_OUTBOX__REQUEST_TIMEOUT": "30s"}

    assert len(problems(environ)) == 1


def test_invalid_settings_end_with_the_exit_code_of_a_usage_error():
    with pytest.raises(UsageError) as raised:
        settings({"WAEMITTER_QQQ": "1"})

    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WAEMITTER_SERVICE_HOST", "10.0.0.1"),
        ("WAEMITTER_SERVICE_PORT_HTTP", "8080"),
        ("WAEMITTER_PORT", "tcp://10.0.0.1:8080"),
        ("WAEMITTER_ADMIN_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_what_kubernetes_injects_for_a_service_is_no_misspelt_setting(variable, value):
    assert settings({variable: value}) == settings()
    assert problems({"WAEMITTER_PORT": "8080"}) != []
