"""One circuit breaker for each service that others depend on, told of when it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from waemitter.runtime.breaker import Breaker, State


class Observer(Protocol):
    """Is told of every change, and of the state that each target begins with."""

    def circuit_changed(self, *, target: str, state: State, first: bool = False) -> None: ...


class CircuitOpen(Exception):
    """The target failed too often just now: it is not asked."""


class TargetFailed(Exception):
    """Raise it, or a subclass of it, within a call that failed by the target's fault."""


class Circuit:
    """The way to one target, shared by all that go there."""

    def __init__(self, target: str, *, observer: Observer, clock: Callable[[], float]) -> None:
        """`target`: a word from the settings, since it becomes a label; `clock` in seconds, monotonic."""
        self.target = target
        self._breaker = Breaker()
        self._observer = observer
        self._clock = clock
        self._told: State = "closed"
        observer.circuit_changed(target=target, state="closed", first=True)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Surround one call. Raises CircuitOpen instead of making it.

        TargetFailed counts against the target and goes on as it is; any other Exception says that the target answered; a
        cancelled call says nothing.
        """
        if not self._breaker.admits(self._clock()):
            raise CircuitOpen(f"{self.target} failed too often just now")
        self._tell()
        try:
            yield
        except TargetFailed:
            self._breaker.failed(self._clock())
            raise
        except Exception:
            self._breaker.succeeded()
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        else:
            self._breaker.succeeded()
        finally:
            self._tell()

    def _tell(self) -> None:
        if self._breaker.state != self._told:
            self._told = self._breaker.state
            self._observer.circuit_changed(target=self.target, state=self._told)


class Circuits:
    """Every target's circuit."""

    def __init__(self, *, observer: Observer, clock: Callable[[], float]) -> None:
        self._observer = observer
        self._clock = clock
        self._circuits: dict[str, Circuit] = {}

    def to(self, target: str) -> Circuit:
        """Give the circuit of a target; the same one whoever asks."""
        if target not in self._circuits:
            self._circuits[target] = Circuit(target, observer=self._observer, clock=self._clock)
        return self._circuits[target]
