from math import inf

import orjson
import pytest

from waemitter.whatsapp.errors import ErrorClass, Refused
from waemitter.whatsapp.health import Health, read_expiry, read_health
from waemitter.whatsapp.replies import Answered, NotSent


def answered(word, entities=None) -> Answered:
    status = {"can_send_message": word, "entities": entities or []}
    return Answered(200, orjson.dumps({"health_status": status, "id": "1"}))


@pytest.mark.parametrize(
    ("word", "sends"), [("AVAILABLE", True), ("LIMITED", True), ("BLOCKED", False)]
)
def test_only_a_blocked_number_does_not_send(word, sends):
    health = read_health(answered(word))
    assert isinstance(health, Health)
    assert (health.can_send_message, health.sends, health.problems) == (word, sends, ())


@pytest.mark.parametrize(
    ("body", "expires"),
    [
        (b'{"data": {"expires_at": 1795300000}}', 1795300000.0),
        (b'{"data": {"expires_at": 0}}', inf),
        (b'{"data": {"expires_at": -1}}', None),
        (b'{"data": {"expires_at": true}}', None),
        (b'{"data": []}', None),
        (b"oops", None),
    ],
)
def test_a_token_s_expiry_is_read(body, expires):
    assert read_expiry(Answered(200, body)) == expires
    assert read_expiry(Answered(400, body)) is None
    assert read_expiry(NotSent("gone")) is None


def test_the_problems_name_their_entity():
    entities = [
        {"entity_type": "PHONE_NUMBER", "errors": [{"error_description": "Not registered."}]},
        {"entity_type": "WABA", "can_send_message": "AVAILABLE"},
        {"entity_type": "APP", "errors": {}},
        "nonsense",
    ]
    health = read_health(answered("BLOCKED", entities))
    assert isinstance(health, Health)
    assert health.problems == ("PHONE_NUMBER: Not registered.",)


def test_an_expired_token_shows_in_the_probe():
    body = orjson.dumps({"error": {"code": 190, "message": "Expired"}})
    assert read_health(Answered(401, body)) == Refused(ErrorClass.PAUSE_ACCOUNT, 190, "Expired")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"health_status": {}}', b'{"health_status": 1}']
)
def test_an_answer_without_a_health_status_is_no_health(body):
    verdict = read_health(Answered(200, body))
    assert isinstance(verdict, Refused)
    assert verdict.error_class is ErrorClass.UNKNOWN


def test_an_unreachable_api_is_no_health():
    assert read_health(NotSent("refused")) == Refused(ErrorClass.RETRY, None, "refused")
