import json
from itertools import chain
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.whatsapp.errors import (
    Accepted,
    ErrorClass,
    Refused,
    classify,
    classify_status_error,
    error_table,
)
from waemitter.whatsapp.replies import Answered, NoAnswer, NotSent

PAYLOADS = Path(__file__).parents[1] / "payloads"

# Written down a second time on purpose: a slip in the data file has to be made here too.
CODES = {
    ErrorClass.RETRY: [1, 2, 131000, 131016, 131053, 133004, 134101, 135000],
    ErrorClass.THROTTLE_NUMBER: [130429, 131048, 131057, 131064, 131208, 2494100],
    ErrorClass.THROTTLE_PAIR: [131056],
    ErrorClass.THROTTLE_APP: [4, 17, 341, 613, 80007, 80008],
    ErrorClass.DEFER: [131049],
    ErrorClass.FAIL: [
        *(100, 1026, 130403, 130472, 130497, 131008, 131009, 131014, 131020, 131021, 131026),
        *(131030, 131041, 131043, 131044, 131047, 131050, 131051, 131055, 131062),
        *(131202, 131204, 131207, *range(131209, 131216)),
        *(132000, 132005, 132007, 132008, 132012, 132018, 134011, 134100, 137000),
        *range(138000, 139000),
        *range(139000, 139005),
    ],
    ErrorClass.FAIL_TEMPLATE: [131063, 132001, 132015, 132016, 132068, 132069, 134102],
    ErrorClass.PAUSE_NUMBER: [33, 131037, 131045, 133010],
    ErrorClass.PAUSE_ACCOUNT: [
        *(0, 3, 10, 102, 104, 190, *range(200, 300), 368, 131005, 131031, 131042),
    ],
    ErrorClass.INBOUND: [130501, 131052, 131060, 2593109],
    ErrorClass.MGMT: [
        *(131059, 131201, 133000, 133005, 133006, 133008, 133009, 133015, 133016, 136024),
        *(*range(139100, 139104), *range(147001, 147006), *range(200005, 200008), 1752041),
        *(2388001, 2388012, 2388019, 2388039, 2388040, 2388047, 2388072, 2388073, 2388077),
        *(2388091, 2388093, 2388103, 2388293, 2388299, 2593079, 2593085, 2593107, 2593108),
    ],
}


def answered(status=400, *, retry_after=None, usage=None, **error):
    return Answered(status, orjson.dumps({"error": error}), retry_after, usage)


def refused(reply) -> Refused:
    verdict = classify(reply)
    assert isinstance(verdict, Refused)
    return verdict


def accepted(**document) -> bytes:
    return orjson.dumps({"messages": [{"id": "wamid.A"}]} | document)


def stored(name) -> Answered:
    reply = json.loads((PAYLOADS / f"{name}.json").read_bytes())
    return Answered(
        reply["status"],
        orjson.dumps(reply["body"]),
        usage=reply["headers"].get("x-business-use-case-usage"),
    )


@pytest.mark.parametrize("error_class", CODES)
@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_a_known_code_decides_whatever_the_http_status(error_class, status):
    for code in CODES[error_class]:
        verdict = refused(answered(status, code=code, message="Title"))
        assert (verdict.error_class, verdict.code) == (error_class, code)


@pytest.mark.parametrize("error_class", CODES)
def test_a_code_means_the_same_in_a_webhook(error_class):
    for code in CODES[error_class]:
        verdict = classify_status_error([{"code": code, "title": "Title"}])
        assert (verdict.error_class, verdict.code) == (error_class, code)


def test_the_table_holds_these_codes_and_no_others():
    expected = {(code, None) for code in chain.from_iterable(CODES.values())} | {(100, 33)}
    assert error_table().keys() == expected


def test_a_subcode_narrows_a_code():
    missing = refused(answered(code=100, error_subcode=33, type="GraphMethodException"))
    assert missing.error_class is ErrorClass.PAUSE_NUMBER
    assert refused(answered(code=100, error_subcode=34)).error_class is ErrorClass.FAIL
    pair = refused(answered(code=131056, error_subcode=2494071))
    assert pair.error_class is ErrorClass.THROTTLE_PAIR


@pytest.mark.parametrize(("code", "tries"), [(1, 3), (131000, 3), (135000, 2), (2, None)])
def test_some_faults_are_retried_a_few_times_only(code, tries):
    assert refused(answered(code=code)).max_tries == tries


@pytest.mark.parametrize(
    ("code", "hold"),
    [(131057, 60), (134101, 600), (131049, 86400), (132069, 3600), (131056, None), (2, None)],
)
def test_some_errors_say_how_long_to_wait(code, hold):
    assert refused(answered(code=code)).hold == hold


def test_only_an_opt_out_suppresses_the_recipient():
    rules = error_table().items()
    assert [code for (code, _), rule in rules if rule.suppress] == [131050]
    assert classify_status_error([{"code": 131050}]).suppress


def test_retry_after_sets_the_wait():
    assert refused(answered(code=131057, retry_after=7.0)).hold == 7
    assert refused(answered(code=131056, retry_after=7.0)).hold == 7
    assert refused(answered(code=2, retry_after=1e9)).hold == 86_400
    assert refused(answered(code=131057, retry_after=0.0)).hold == 60
    assert refused(answered(code=131047, retry_after=7.0)).hold is None


def test_the_usage_header_tells_when_an_app_may_call_again():
    quotas = [{"estimated_time_to_regain_access": 3}, {"estimated_time_to_regain_access": 19}, 5]
    usage = json.dumps({"214700000000001": quotas, "214700000000002": None})
    assert refused(answered(code=4, usage=usage)).hold == 19 * 60
    assert refused(answered(code=4, usage=usage, retry_after=2000.0)).hold == 2000
    assert refused(answered(code=131056, usage=usage)).hold is None


@pytest.mark.parametrize("usage", [None, "", "{", "[]", "{}", '{"1": {}}', '{"1": [{}]}'])
def test_a_usage_header_without_an_estimate_leaves_the_tables_wait(usage):
    assert refused(answered(code=80007, usage=usage)).hold == 60


@pytest.mark.parametrize(
    ("status", "extra", "error_class", "tries"),
    [
        (400, {}, ErrorClass.RETRY, 2),
        (404, {}, ErrorClass.RETRY, 2),
        (400, {"is_transient": True}, ErrorClass.RETRY, None),
        (500, {}, ErrorClass.RETRY, None),
        (503, {"is_transient": False}, ErrorClass.RETRY, None),
        (401, {}, ErrorClass.PAUSE_ACCOUNT, None),
        (403, {}, ErrorClass.PAUSE_ACCOUNT, None),
        (429, {}, ErrorClass.THROTTLE_APP, None),
    ],
)
def test_an_unknown_code_is_judged_by_the_http_status(status, extra, error_class, tries):
    verdict = refused(answered(status, code=999_999, **extra))
    assert (verdict.error_class, verdict.code, verdict.max_tries) == (error_class, 999_999, tries)


@pytest.mark.parametrize(
    ("status", "body", "error_class"),
    [
        (502, b"<html>Bad Gateway</html>", ErrorClass.UNKNOWN),
        (500, b"", ErrorClass.UNKNOWN),
        (504, b'{"error": "upstream timed out"}', ErrorClass.UNKNOWN),
        (503, b'{"error": {"message": "no code"}}', ErrorClass.UNKNOWN),
        (408, b"", ErrorClass.UNKNOWN),
        (200, b'{"messages": [{"id": "wamid.HBg', ErrorClass.UNKNOWN),
        (200, b"", ErrorClass.UNKNOWN),
        (200, b"[]", ErrorClass.UNKNOWN),
        (200, b'{"success": true}', ErrorClass.UNKNOWN),
        (200, b'{"messages": []}', ErrorClass.UNKNOWN),
        (200, b'{"messages": [{"id": ""}]}', ErrorClass.UNKNOWN),
        (200, b'{"messages": [{"id": 7}]}', ErrorClass.UNKNOWN),
        (500, accepted(), ErrorClass.UNKNOWN),
        (301, b"", ErrorClass.PAUSE_ACCOUNT),
        (401, b"", ErrorClass.PAUSE_ACCOUNT),
        (403, b"<html>", ErrorClass.PAUSE_ACCOUNT),
        (404, b"<html>", ErrorClass.RETRY),
        (429, b"<html>", ErrorClass.THROTTLE_APP),
        (200, b'{"error": {"code": 131056}}', ErrorClass.THROTTLE_PAIR),
    ],
)
def test_an_answer_that_is_not_metas_usual_one(status, body, error_class):
    assert refused(Answered(status, body)).error_class is error_class


def test_a_request_that_never_left_is_retried_and_a_lost_one_is_unknown():
    assert classify(NotSent("refused")) == Refused(ErrorClass.RETRY, None, "refused")
    assert classify(NoAnswer("reset")) == Refused(ErrorClass.UNKNOWN, None, "reset")


@pytest.mark.parametrize(
    ("name", "wa_id", "message_status"),
    [
        ("api_200_text", "15550101201", None),
        ("api_200_bsuid", None, None),
        ("api_200_template_accepted", "915550101205", "accepted"),
        ("api_200_template_held", "915550101205", "held_for_quality_assessment"),
        ("api_200_template_paused", "915550101205", "paused"),
    ],
)
def test_an_accepted_message_gives_its_id(name, wa_id, message_status):
    verdict = classify(stored(name))
    assert isinstance(verdict, Accepted)
    assert verdict.wamid.startswith("wamid.")
    assert (verdict.wa_id, verdict.message_status) == (wa_id, message_status)


@pytest.mark.parametrize(
    "path", sorted(PAYLOADS.glob("api_error_*.json")), ids=lambda path: path.stem
)
def test_every_stored_error_has_a_verdict_by_its_code(path):
    verdict = refused(stored(path.stem))
    assert verdict.code == int(path.stem.split("_")[2])
    assert verdict.error_class is not ErrorClass.UNKNOWN


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"message": "(#1) A", "error_data": {"details": "B"}}, "(#1) A: B"),
        ({"message": "(#1) A", "error_data": "B"}, "(#1) A: B"),
        ({"message": "Same", "error_data": {"details": "Same"}}, "Same"),
        ({"title": "A", "error_data": {}}, "A"),
        ({"message": "A", "error_user_msg": "B"}, "A: B"),
        ({"message": 5, "error_data": [1]}, "no message"),
    ],
)
def test_the_message_is_the_title_with_its_details(error, message):
    assert refused(answered(code=1, **error)).message == message


@pytest.mark.parametrize(
    "number",
    ["15550101201", "+1 (555) 010-1201", "+49.170.555.0101", "555-0101", "wamid.HBgLMTU1NTA="],
)
def test_the_message_never_shows_a_phone_number(number):
    verdict = refused(answered(code=100, message=f"(#131056) to {number} failed"))
    assert verdict.message == "(#131056) to [redacted] failed"


def test_the_message_is_short():
    assert len(refused(answered(code=1, message="é" * 600)).message) == 500


@pytest.mark.parametrize(
    "errors", [[], [{}], ["text"], [{"code": None}], [{"code": True}], [{"code": "x" * 9}]]
)
def test_a_failed_status_without_a_code_is_final(errors):
    verdict = classify_status_error(errors)
    assert (verdict.error_class, verdict.code) == (ErrorClass.FAIL, None)


def test_a_failed_status_with_an_unknown_code_is_final():
    verdict = classify_status_error([{}, {"code": "999999", "title": "New"}])
    assert verdict == Refused(ErrorClass.FAIL, 999_999, "New")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "code", "message", "messages", "id", "error_data", "details", "contacts"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(status=st.integers(100, 599), document=json_values, usage=st.none() | st.text())
def test_any_json_has_a_verdict(status, document, usage):
    assert isinstance(
        classify(Answered(status, orjson.dumps(document), None, usage)), Accepted | Refused
    )


@given(status=st.integers(100, 599), body=st.binary())
def test_any_bytes_have_a_verdict(status, body):
    assert isinstance(classify(Answered(status, body)), Refused)
