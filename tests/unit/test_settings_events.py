from __future__ import annotations

from pathlib import Path

import pytest

from waemitter.jobs.event_stream.event import TYPES
from waemitter.settings import InvalidSettings, Settings, load
from waemitter.settings.report import rows

LEAST = '[events.shop]\ntypes = ["*"]\nwebhook = "https://shop.test/e?key=hidden"\n'
KAFKA = '[events.k]\ntypes = ["*"]\nkafka = "a:9092,b:9092"\n'


def settings(folder: Path, text: str, **environ: str) -> Settings:
    file = folder / "waemitter.toml"
    file.write_text(text)
    return load(environ=environ, config=file).settings


def test_a_subscription_has_its_types_its_target_and_its_secret(tmp_path: Path) -> None:
    text = LEAST + 'secret_env = "S"\n\n' + KAFKA + 'username = "w"\npassword_file = "p"\n'
    (tmp_path / "p").write_text("pass\n")
    shop, kafka = settings(tmp_path, text, S="whsec_c2VjcmV0").subscriptions

    assert (shop.name, shop.kind, shop.target) == ("shop", "webhook", "https://shop.test")
    assert shop.table.types == TYPES
    assert shop.secret is not None
    assert shop.secret.get_secret_value() == "whsec_c2VjcmV0"
    assert (kafka.kind, kafka.target) == ("kafka", "a:9092, b:9092 waemitter.events")
    assert kafka.password is not None
    assert kafka.password.get_secret_value() == "pass"


def test_nats_shows_no_password(tmp_path: Path) -> None:
    text = (
        '[events.n]\ntypes = "message.*"\nnats = "nats://u:pass@h:4222"\ncredentials_file = "c"\n'
    )
    (bus,) = settings(tmp_path, text).subscriptions

    assert bus.target == "nats://h:4222 waemitter.events"
    assert bus.credentials == tmp_path / "c"


def test_check_tells_who_is_told_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "waemitter.toml"
    file.write_text(LEAST.replace('"*"', '"turn.*"') + 'secret_env = "S"\n')
    told = [row for row in rows(load(environ={"S": "s3cret"}, config=file)) if "events" in row.name]

    assert [row.text for row in told if row.name == "events.shop"] == [
        "turn.completed, turn.failed to https://shop.test"
    ]
    assert "s3cret" not in str(told)
    assert "hidden" not in str(told)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[events]]\ntypes = ['*']\n", "'events' must be tables, each written [events.<name>]"),
        (LEAST.replace("shop]", "'Shop 1']"), "the name must be small letters, digits, - and _"),
        (LEAST.replace('["*"]', '["message"]'), "events.shop.types holds what is no event: 'message' is no type"),
        ('[events.shop]\nwebhook = "https://s.test"\n', "events.shop needs types: what is to be told"),
        ('[events.shop]\ntypes = ["*"]\n', "events.shop needs one of webhook, nats, kafka"),
        (LEAST + 'nats = "nats://n:4222"\n', "needs one of webhook, nats, kafka, and only one"),
        (LEAST + 'topic = "t"\n', "events.shop.topic is for kafka, and this goes to webhook"),
        (LEAST + 'tpyes = "t"\n', "events.shop has no key 'tpyes'; did you mean types?"),
        (LEAST + 'secret_env = "S"\n', "events.shop.secret_env names S, which is not set"),
        (LEAST + 'secret_env = "BAD"\n', "events.shop: the signing secret begins with whsec_"),
        (LEAST + 'secret_env = "BAD"\nsecret_file = "x"\n', "secret_env and secret_file are both set"),
        (LEAST + "concurrency = 0\n", "events.shop.concurrency must be at least 1"),
        (LEAST.replace("https://", "https://u:p@"), "events.shop.webhook must hold no user and no password"),
        (LEAST.replace("https", "ftp"), "events.shop.webhook must be an address such as https://host/path"),
        (KAFKA.replace(",b:9092", ",b"), "events.k.kafka must be host:port"),
        ('[events.n]\ntypes = "*"\nnats = "h:4222"\n', "events.n.nats must be addresses such as nats://"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        settings(tmp_path, text, BAD="whsec_*")

    assert any(problem in line for line in caught.value.problems), caught.value.problems
    assert not any("u:p@" in line or "whsec_*" in line for line in caught.value.problems)
