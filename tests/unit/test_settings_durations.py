import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.settings import format_duration, parse_duration

DAY = 86_400.0


@given(st.floats(0, 10 * 366 * DAY))
def test_a_duration_reads_back_as_it_was_written(seconds):
    assert parse_duration(format_duration(seconds)) == seconds
    assert parse_duration(seconds) == seconds


@given(st.integers(0, 10_000), st.sampled_from([("", 1), ("s", 1), ("m", 60), ("h", 3600)]))
def test_a_duration_is_its_number_times_its_unit(number, unit):
    assert parse_duration(f" {number} {unit[0]}") == number * unit[1]
    assert parse_duration(f"{number}ms") == number / 1000


@given(st.text(alphabet="0123456789.-+smhdeinf ", max_size=6) | st.booleans() | st.none())
def test_what_is_no_duration_is_refused_with_a_value_error(value):
    try:
        seconds = parse_duration(value)
    except ValueError:
        return
    assert 0 <= seconds < float("inf")
    assert isinstance(value, str)
    assert value.strip()[0].isdigit()


@pytest.mark.parametrize("number", [-1, -0.5, float("inf"), float("nan"), 10**400])
def test_a_negative_or_endless_number_is_no_duration(number):
    with pytest.raises(ValueError, match="must be a duration such as"):
        parse_duration(number)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(300, "5m"), (0.25, "250ms"), (DAY, "1d"), (1.2, "1.2s"), (90, "90s"), (0, "0s")],
)
def test_a_duration_is_shown_in_the_unit_a_person_would_use(seconds, text):
    assert format_duration(seconds) == text
