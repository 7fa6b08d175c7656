import json
from pathlib import Path

import pytest

from waemitter.whatsapp.signature import handshake, sign, verify

VECTORS = json.loads(
    (Path(__file__).parents[1] / "payloads" / "signature_vectors.json").read_bytes()
)["vectors"]
ASKED = {"hub.mode": "subscribe", "hub.verify_token": "tokén", "hub.challenge": "1158201444"}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_metas_spelling_of_the_body_is_what_is_signed(vector):
    raw, header = vector["raw_body"].encode(), vector["x_hub_signature_256"]
    assert sign(vector["app_secret"], raw) == header
    assert verify([vector["app_secret"]], raw, header)
    respelled = json.dumps(json.loads(raw)).encode()
    assert not verify([vector["app_secret"]], respelled, header)


@pytest.mark.parametrize("secrets", [["old", "new"], ["new", "old"], ["new"], ["", "new"]])
def test_any_of_several_secrets_will_do(secrets):
    assert verify(secrets, b"{}", sign("new", b"{}"))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "sha256=",
        "sha1=" + sign("secret", b"{}")[7:],
        sign("secret", b"{}")[7:],
        sign("secret", b"{}")[:-1],
        sign("secret", b"{}") + "0",
        sign("another", b"{}"),
        "sha256=\u00fc\ud800",
    ],
)
def test_any_other_header_is_refused(header):
    assert not verify(["secret"], b"{}", header)


def test_an_empty_secret_proves_nothing():
    assert not verify([""], b"{}", sign("", b"{}"))
    assert not verify([], b"{}", sign("", b"{}"))


def test_handshake_answers_with_the_challenge():
    assert handshake(ASKED, ["tokén"]) == "1158201444"


def test_any_of_several_apps_may_register_the_address():
    assert handshake(ASKED, ["another", "tokén", "third"]) == "1158201444"


@pytest.mark.parametrize(
    ("change", "token"),
    [
        ({"hub.mode": "unsubscribe"}, "tokén"),
        ({"hub.verify_token": "wrong"}, "tokén"),
        ({"hub.verify_token": "\ud800"}, "tokén"),
        ({}, "wrong"),
        ({"hub.verify_token": ""}, ""),
    ],
)
def test_handshake_refuses_strangers(change, token):
    assert handshake(ASKED | change, [token]) is None


@pytest.mark.parametrize("absent", ASKED)
def test_handshake_needs_every_key(absent):
    query = {key: value for key, value in ASKED.items() if key != absent}
    assert handshake(query, ["tokén"]) is None
