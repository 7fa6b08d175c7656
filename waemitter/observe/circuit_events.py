"""What happens to the services that handlers depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from structlog.typing import FilteringBoundLogger

from waemitter.observe.metrics import Metrics

_NUMBERS: Final[Mapping[str, float]] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}
_WORDS: Final[Mapping[str, str]] = {
    "closed": "Calls to a service go through",
    "half_open": "A service that failed is asked once more",
    "open": "A service failed too often in a row; it is left alone for a while",
}


class CircuitEvents:
    """A part of `Events`."""

    _metrics: Metrics
    _log: FilteringBoundLogger

    def circuit_changed(
        self, *, target: str, state: Literal["closed", "half_open", "open"], first: bool = False
    ) -> None:
        """`target`: a word from the settings; `first`: it is its state at the start, and no news."""
        self._metrics.circuit_state.labels(target).set(_NUMBERS[state])
        news = self._log.warning if state == "open" else self._log.info
        log = self._log.debug if first else news
        log("CIRCUIT_CHANGED", target=target, state=state, msg=_WORDS[state])
