"""The echo: what comes back with each of Meta's statuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waemitter.outbox.message import Echo, read_echo

INT64 = st.integers(-(2**63), 2**63 - 1)


CARRIED = st.text(st.characters(exclude_characters="|"), min_size=1, max_size=128)


@given(
    message_id=st.integers(1, 2**63 - 1),
    token=INT64,
    correlation_id=st.none() | CARRIED,
    own=st.text(max_size=50),
)
def test_an_echo_is_read_back_with_or_without_the_sender_s_own_words(
    message_id: int, token: int, correlation_id: str | None, own: str
) -> None:
    echo = Echo(message_id, token, correlation_id)
    assert read_echo(echo.text()) == echo
    assert read_echo(f"{echo.text()}|{own}") == echo


@pytest.mark.parametrize("correlation_id", ["", "a|b", "x" * 129])
def test_a_correlation_id_that_cannot_travel_stays_at_home(correlation_id: str) -> None:
    assert read_echo(Echo(1, 2, correlation_id).text()) == Echo(1, 2)


@pytest.mark.parametrize(
    "text",
    [None, "", "order-17", "wm1.", "wm1.7", "wm1.7.abc", "wm1.7.00000000000000gg", "wm2.7.0000000000000000",
     "wm1.7.0000000000000000x"],
)  # fmt: skip
def test_what_others_wrote_is_no_echo(text: str | None) -> None:
    assert read_echo(text) is None
