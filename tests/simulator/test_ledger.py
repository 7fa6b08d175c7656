import pytest

from waemitter.simulator.ledger import Ledger, fingerprint, jitter

NUMBER = "111000111"


def enter(ledger: Ledger, body: dict[str, object], to: str = "15550001", at: float = 0.0) -> None:
    ledger.accepted(
        accepted_at=at,
        arrived=at,
        phone_number_id=NUMBER,
        to=to,
        type=str(body.get("type", "text")),
        wamid=f"wamid.{len(ledger)}",
        opaque=None,
        fingerprint=fingerprint(NUMBER, to, body),
    )


def body(text: str, **more: object) -> dict[str, object]:
    return {"messaging_product": "whatsapp", "type": "text", "text": {"body": text}, **more}


def test_the_same_content_to_the_same_recipient_is_a_duplicate():
    ledger = Ledger()
    enter(ledger, body("a", to="+1 555 0001", biz_opaque_callback_data="first"))
    enter(ledger, body("a", to="15550001", biz_opaque_callback_data="second"))
    enter(ledger, body("b"))
    enter(ledger, body("a"), to="15550002")
    report = ledger.report()
    assert (report["accepted"], report["distinct"], report["duplicates"]) == (4, 3, 1)
    assert [row.id for row in ledger.duplicates()] == [2]


def test_another_number_makes_another_message():
    assert fingerprint("1", "15550001", body("a")) != fingerprint("2", "15550001", body("a"))


def test_the_order_of_keys_makes_no_difference():
    backwards = dict(reversed(body("a").items()))
    assert fingerprint("1", "2", backwards) == fingerprint("1", "2", body("a"))


@pytest.mark.parametrize(
    ("moments", "limit", "peak", "over"),
    [
        ([0, 0.4, 0.8, 1.2, 1.6], 3, 3, 0),
        ([0, 0.4, 0.8, 0.9, 1.6], 3, 4, 1),
        ([0, 1, 2, 3], 1, 1, 0),
        # The calendar's seconds hold two each; the second from 0.9 on holds four.
        ([0.9, 0.95, 1.0, 1.05], 3, 4, 1),
        ([5, 5, 5], 0, 3, 0),
    ],
)
def test_the_peak_is_taken_over_any_second(moments, limit, peak, over):
    ledger = Ledger()
    for now in moments:
        ledger.arrived(NUMBER, now, limit)
    report = ledger.report()
    assert (report["peak_per_second"], report["over_limit"]) == (peak, over)
    assert report["arrivals"] == len(moments)


def test_peaks_of_two_numbers_are_not_added():
    ledger = Ledger()
    for number in ("1", "2", "1", "2"):
        ledger.arrived(number, 0.0, 2)
    assert ledger.report()["peak_per_second"] == 2
    assert ledger.report()["over_limit"] == 0


def test_the_rate_is_gaps_over_time():
    ledger = Ledger()
    for tick in range(101):
        ledger.arrived(NUMBER, tick / 50, 80)
    assert ledger.report()["arrival_rate"] == 50


def test_an_even_pace_has_no_jitter_and_a_late_one_shows():
    even = jitter([0.01] * 100)
    assert (even["median_gap"], even["max"]) == (0.01, 0)
    late = jitter([0.01] * 99 + [0.04])
    assert late["p95"] == 0
    assert late["max"] == pytest.approx(0.03)


def test_idle_time_is_no_jitter():
    ledger = Ledger()
    for now in (0.0, 0.1, 0.2, 60.0, 60.1):
        ledger.arrived(NUMBER, now, 80)
    assert ledger.report()["jitter"]["max"] == pytest.approx(0, abs=1e-6)


def test_rows_are_paged_and_clearing_forgets_them():
    ledger = Ledger()
    for index in range(5):
        enter(ledger, body(str(index)), at=float(index))
    assert [row.id for row in ledger.rows(after=1, limit=2)] == [2, 3]
    assert next(ledger.rows(after=4)).accepted_at == 4.0
    ledger.webhooks.sent = 3
    ledger.clear()
    assert len(ledger) == 0
    assert ledger.report()["webhooks"]["sent"] == 0
