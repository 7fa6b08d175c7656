"""All of them."""

from __future__ import annotations

from typing import Final

from tests.mutants import receiving, running, sending
from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    *sending.MUTANTS,
    *receiving.MUTANTS,
    *running.MUTANTS,
)
