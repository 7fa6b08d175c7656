"""When a job runs next, and how that reads."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.jobs.schedule import Every, ScheduleError, daily, interval, parse, span, until


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "expected", "words"),
    [
        ("5m", "UTC", "2026-11-22T10:00:30", "2026-11-22T10:05:30", "every 5 minutes"),
        ("1h", "UTC", "2026-11-22T10:00:00", "2026-11-22T11:00:00", "every hour"),
        ("90 seconds", "UTC", "2026-11-22T10:00:00", "2026-11-22T10:01:30", "every 1 minute 30 seconds"),
        ("0 2 * * *", "UTC", "2026-11-22T10:00:00", "2026-11-23T02:00:00", "at 02:00 every day (UTC)"),
        ("0 2 * * *", "UTC", "2026-11-22T02:00:00", "2026-11-23T02:00:00", "at 02:00 every day (UTC)"),
        ("0 2 * * *", "Europe/Berlin", "2026-07-01T10:00:00", "2026-07-02T00:00:00", "at 02:00 every day (Europe/Berlin)"),
        # the clock is set forward over 02:30 on that night: it runs at once, and once
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T00:30:00", "2026-03-29T01:00:00", "at 02:30 every day (Europe/Berlin)"),
        ("0 0 29 2 *", "UTC", "2026-11-22T10:00:00", "2028-02-29T00:00:00", "at 00:00 on February 29 (UTC)"),
    ],
)  # fmt: skip
def test_a_schedule_says_when_and_in_words(schedule, zone, now, expected, words):
    parsed = parse(schedule, zone)

    assert parsed.after(at(now), due=None) == at(expected)
    assert parsed.words == words


@pytest.mark.parametrize(
    ("schedule", "zone", "told"),
    [
        ("often", "UTC", "write an interval"),
        ("0s", "UTC", "write 1s or more"),
        ("0 25 * * *", "UTC", "Bad hour"),
        ("* * * *", "UTC", "Wrong number of fields"),
        ("0 0 31 2 *", "UTC", "write an interval"),
        ("0 2 * * *", "Europe/Nowhere", "no time zone"),
        ("0 2 * * *", "../etc/passwd", "no time zone"),
        ("0 2 * * *", "", "no time zone"),
    ],
)
def test_what_cannot_be_understood_says_what_would_be(schedule, zone, told):
    with pytest.raises(ScheduleError, match=told):
        parse(schedule, zone)


@given(
    seconds=st.integers(1, 86_400),
    late=st.floats(0, 1e7, allow_nan=False),
)
def test_missed_runs_are_caught_up_once_and_the_grid_is_kept(seconds, late):
    due = at("2026-11-22T10:00:00")
    now = due + timedelta(seconds=late)

    coming = Every(timedelta(seconds=seconds)).after(now, due=due)

    assert now < coming <= now + timedelta(seconds=seconds)
    assert (coming - due) % timedelta(seconds=seconds) == timedelta(0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(300.0, "5m"), (10.0, "10s"), (3600.0, "1h"), (86_400.0, "1d"), (90.0, "90s"), (0.2, "1s")],
)
def test_an_interval_of_the_settings_is_written_as_a_schedule(seconds, text):
    assert interval(seconds) == text
    assert parse(text, "UTC") == Every(timedelta(seconds=max(1, seconds)))


@pytest.mark.parametrize(
    ("when", "text"), [(time(2), "0 2 * * *"), (time(23, 5, 7), "7 5 23 * * *")]
)
def test_a_time_of_the_day_is_written_as_a_schedule(when, text):
    assert daily(when) == text
    coming = parse(text, "UTC").after(at("2026-11-22T00:00:00"), due=None)
    assert coming.time() == when


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "no time"),
        (1, "1 second"),
        (59.6, "1 minute"),
        (3900, "1 hour 5 minutes"),
        (90_061, "1 day 1 hour"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds, words):
    assert span(timedelta(seconds=seconds)) == words


def test_the_next_run_is_told_in_words():
    now = at("2026-11-22T10:00:00")
    assert until(None, now) == "never"
    assert until(now - timedelta(hours=1), now) == "now"
    assert until(now + timedelta(minutes=4), now) == "in 4 minutes"
