"""What a seeded defect is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """`before` stands once in `file`, and becomes `after`; `tests` are a path and, with -k, a part of a name."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
