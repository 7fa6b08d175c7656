"""What goes wrong on purpose with one request, decided by one roll of the dice."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from waemitter.simulator.options import Options


class Fault(Enum):
    """A failure of the wire; the value is the option that holds its probability."""

    DROP_BEFORE = "drop_before"
    HANG_BEFORE = "hang_before"
    HTML_5XX = "html_5xx"
    DROP_AFTER = "drop_after"
    HANG_AFTER = "hang_after"
    HTML_5XX_AFTER = "html_5xx_after"
    CUT_REPLY = "cut_reply"

    @property
    def spares_the_platform(self) -> bool:
        """True when the request never takes effect."""
        return self in _BEFORE


_BEFORE = frozenset({Fault.DROP_BEFORE, Fault.HANG_BEFORE, Fault.HTML_5XX})


def probabilities(options: Options) -> dict[Fault, float]:
    """Return the faults that can happen at all, so that a faultless request costs no dice."""
    shares = {fault: float(getattr(options, fault.value)) for fault in Fault}
    return {fault: share for fault, share in shares.items() if share > 0}


def fault_at(roll: float, shares: Mapping[Fault, float]) -> Fault | None:
    """Return the fault whose stretch of 0..1 holds `roll`, or None."""
    for fault, share in shares.items():
        roll -= share
        if roll < 0:
            return fault
    return None


def error_code_at(roll: float, mix: Mapping[int, float]) -> int | None:
    """Return the error code whose stretch of 0..1 holds `roll`, or None."""
    for code, share in mix.items():
        roll -= share
        if roll < 0:
            return code
    return None
