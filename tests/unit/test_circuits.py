import asyncio

import pytest

from tests.observing import observing
from waemitter.runtime.breaker import REST, THRESHOLD
from waemitter.runtime.circuits import Circuit, CircuitOpen, Circuits, TargetFailed


class Diary:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.now = 0.0

    def circuit_changed(self, *, target: str, state: str, first: bool = False) -> None:
        assert first == (not self.told)
        self.told.append((target, state))


def fail(circuit: Circuit) -> None:
    with pytest.raises(TargetFailed), circuit.call():
        raise TargetFailed


def test_each_target_is_one_circuit_whoever_asks():
    with observing() as observed:
        circuits = Circuits(observer=observed.events, clock=lambda: 0.0)

        assert circuits.to("rides") is circuits.to("rides")
        assert circuits.to("rides") is not circuits.to("insurance")
        assert observed.value("circuit_state", target="rides") == 0


def test_a_target_that_fails_is_left_alone_and_asked_once_when_it_has_rested():
    diary = Diary()
    circuit = Circuits(observer=diary, clock=lambda: diary.now).to("rides")

    for _ in range(THRESHOLD):
        fail(circuit)
    with pytest.raises(CircuitOpen, match="rides"), circuit.call():
        pytest.fail("it was called")
    diary.now = REST
    with circuit.call(), pytest.raises(CircuitOpen), circuit.call():
        pytest.fail("a second call was made")

    states = ["closed", "open", "half_open", "closed"]
    assert diary.told == [("rides", state) for state in states]


def test_a_fault_of_ours_says_that_the_target_answered():
    diary = Diary()
    circuit = Circuits(observer=diary, clock=lambda: diary.now).to("rides")

    for _ in range(THRESHOLD):
        fail(circuit)
        with pytest.raises(ValueError, match="ours"), circuit.call():
            raise ValueError("ours")

    assert diary.told == [("rides", "closed")]


def test_a_cancelled_call_says_nothing():
    diary = Diary()
    circuit = Circuits(observer=diary, clock=lambda: diary.now).to("rides")
    for _ in range(THRESHOLD):
        fail(circuit)
    diary.now = REST

    with pytest.raises(asyncio.CancelledError), circuit.call():
        raise asyncio.CancelledError

    assert diary.told[-1] == ("rides", "open")
    with circuit.call():
        pass
    assert diary.told[-1] == ("rides", "closed")
