from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from waemitter.cli.check import check
from waemitter.inbox.windows import OFF, Window
from waemitter.settings import InvalidSettings, RouteSettings, load

GENERAL = Window()


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def routes(text: str, environ: dict[str, str] | None = None) -> tuple[RouteSettings, ...]:
    Path("waemitter.toml").write_text(text)
    return load(environ=environ or {}, config=None).settings.routes


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidSettings) as raised:
        routes(text)
    return [line.removeprefix("waemitter.toml: ") for line in raised.value.problems]


ONE = "[[routes]]\nname = 'one'\n"
REPLY = "handler = 'reply'\ntext = 'Hello'\n"
ALL = "fallback = true\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (f"{ONE}{REPLY}keyword = 'a'", "route 'one' has no key 'keyword'; did you mean keywords?"),
        (
            f"{ONE}{REPLY}",
            (
                "route 'one' takes no turn: add keywords, prefix, contains, regex, types, referral, field, contacts or percent, "
                "or fallback = true"
            ),
        ),
        (f"[[routes]]\n{REPLY}{ALL}", "routes[0] has no name"),
        (f"{ONE}{ALL}", "route 'one' has no handler: who is to answer?"),
        (
            f"{ONE}{ALL}handler = 'mail'",
            "route 'one'.handler must be 'reply', 'http', 'python', 'sql', 'chatwoot' or 'agent' (it is 'mail')",
        ),
        (
            f"{ONE}{REPLY}regex = '(?=x)'",
            "route 'one'.regex is no regular expression of RE2: invalid perl operator: (?= (it is '(?=x)')",
        ),
        (
            f"{ONE}{REPLY}regex = '{'x' * 501}'",
            "route 'one'.regex must have at most 500 characters",
        ),
        (f"{ONE}{REPLY}percent = 101", "route 'one'.percent must be at most 100 (it is 101)"),
        (f"{ONE}{REPLY}contacts = ['12']", "route 'one'.contacts.0 holds what has 2 digits"),
        (
            f"{ONE}{REPLY}{ALL}types = 'text'",
            "route 'one' is a fallback, which takes every message: remove what it asks of them",
        ),
        (
            f"{ONE}{REPLY}event = 'missed'\npercent = 1",
            "route 'one' asks for an event of no field: add field",
        ),
        (
            f"{ONE}{REPLY}field = 'calls'\nkeywords = 'a'",
            (
                "route 'one' has a field, whose changes have no words: remove keywords, prefix, contains, regex, types and "
                "referral"
            ),
        ),
        (
            f"{ONE}{REPLY}field = 'messages'",
            "route 'one' asks for the field messages: what customers write needs none, remove it",
        ),
        (
            f"{ONE}{REPLY}field = 'calls'\nbuffer = {{ mode = 'off' }}",
            "route 'one' has a field: a change waits for no window and ends no session, remove buffer and ends_session",
        ),
        (
            f"{ONE}{REPLY}{ALL}ends_session = true\nservice = 'x'",
            "route 'one' has both ends_session and service: it cannot end what it begins",
        ),
        (
            f"{ONE}{REPLY}{ALL}url = 'http://x/'",
            "route 'one'.url is nothing for the handler 'reply': it is for http",
        ),
        (f"{ONE}{ALL}handler = 'http'", "route 'one'.url is missing: the handler 'http' needs it"),
        (
            f"{ONE}{ALL}handler = 'http'\nurl = 'http://me:pw@x/'",
            "route 'one'.url must hold no user and no password: sign with secret_env",
        ),
        (
            f"{ONE}{ALL}handler = 'http'\nurl = 'http://x/'\nsecret_env = 'RIDES'",
            "route 'one'.secret_env names RIDES, which is not set",
        ),
        (
            f"{ONE}{ALL}handler = 'sql'\nfunction = 'f(); drop'",
            "route 'one'.function must be schema.function, in lower case (it is 'f(); drop')",
        ),
        (
            f"{ONE}{ALL}handler = 'python'\nfunction = 'shop.answer'",
            "route 'one'.function must be package.module:function (it is 'shop.answer')",
        ),
        (
            f"{ONE}{ALL}handler = 'agent'\nagent = 'asistant'\n[agents.assistant]\nmodel = 'm'",
            "route 'one'.agent is not a table [agents.<name>]; did you mean assistant?",
        ),
        (
            f"{ONE}{ALL}handler = 'reply'",
            (
                "route 'one'.text: is missing: a reply says something, by one of text, buttons, list, template, image, video, "
                "audio, document, sticker, location, messages"
            ),
        ),
        (
            f"{ONE}{ALL}handler = 'reply'\ntext = 'x'\nbuttons = ['a', 'b', 'c', 'd']",
            "route 'one'.interactive.action.buttons: holds 4: at most 3 are allowed",
        ),
        (
            f"{ONE}{ALL}handler = 'reply'\ntext = 'Hello {{nam}}'",
            "route 'one'.text: knows no {nam}: a reply knows {name} and {phone}",
        ),
        (f"{ONE}{REPLY}{ALL}{ONE}{REPLY}{ALL}", "2 routes have the name 'one'; it must be unique"),
        (
            f"{ONE}{REPLY}{ALL}[[routes.variants]]\nname = 'a'\n{REPLY}",
            "route 'one'.handler stands in a route with variants: move it into them",
        ),
        (
            f"{ONE}{ALL}[[routes.variants]]\nname = 'a'\n{REPLY}[[routes.variants]]\nname = 'a'\n{REPLY}",
            "route 'one' has 2 variants named 'a'",
        ),
        (
            f"{ONE}{ALL}[[routes.variants]]\nname = 'a'\nwait = 3\n{REPLY}",
            "route 'one'.variants[0] has no key 'wait'; did you mean weight?",
        ),
        (
            f"{ONE}{REPLY}{ALL}buffer = {{ mode = 'sometimes' }}",
            "route 'one'.buffer.mode must be 'fixed', 'sliding' or 'off' (it is 'sometimes')",
        ),
    ],
)
def test_what_is_wrong_with_a_route_is_one_line_that_says_what_to_do(text, complaint):
    found = problems(text)
    assert any(line.startswith(complaint) for line in found), found


def test_a_window_of_its_own_takes_the_rest_from_the_general_one():
    (one,) = routes(f"{ONE}{REPLY}{ALL}buffer = {{ mode = 'sliding', duration = '5s' }}")

    assert one.route(Window(max_size=7)).buffer == Window(mode="sliding", duration=5, max_size=7)


def test_without_variants_there_is_one_named_as_its_handler():
    (one,) = routes(f"{ONE}{REPLY}{ALL}")

    assert [variant.name for variant in one.route(GENERAL).variants] == ["reply"]
    assert one.answering[0].replies == ({"type": "text", "text": {"body": "Hello"}},)


def test_words_and_contacts_are_brought_to_one_spelling():
    (one,) = routes(
        f"{ONE}{REPLY}keywords = ' Ride  NOW '\ncontacts = ['+1 (415) 555-0123', 'US.77']"
    )

    conditions = one.route(GENERAL).conditions
    assert conditions.words.keywords == {"ride now"}
    assert conditions.contacts == {"14155550123", "US.77"}


def test_the_signing_secret_stays_out_of_sight():
    (one,) = routes(
        f"{ONE}{ALL}handler = 'http'\nurl = 'http://127.0.0.1:9000/turns'\nsecret_env = 'RIDES'",
        {"RIDES": "s3cret"},
    )

    (answering,) = one.answering
    assert answering.secret is not None
    assert answering.secret.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(one)


def test_check_shows_who_answers_for_each_route():
    Path("waemitter.toml").write_text(f"{ONE}{REPLY}{ALL}")
    app = Typer()
    app.command()(check)

    result = CliRunner().invoke(app, env={"WAEMITTER_TEST_POSTGRES": None})

    assert result.exit_code == 0, result.output
    assert ["routes.one", "reply", "waemitter.toml"] in [
        line.split() for line in result.stdout.splitlines()
    ]


def test_people_read_as_it_comes_unless_a_window_is_asked_for():
    desk = "[[routes]]\nname = 'people'\nkeywords = 'agent'\nhandler = 'chatwoot'\n"
    [people] = routes(desk)
    [slow] = routes(desk + "buffer = { mode = 'sliding' }\n")

    assert people.route(GENERAL).buffer == OFF
    assert slow.route(GENERAL).buffer == Window(mode="sliding")
