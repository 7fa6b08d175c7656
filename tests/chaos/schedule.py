"""What goes wrong and when: drawn from a seed, so that a run can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal[
    "kill",
    "terminate",
    "freeze",
    "postgres fast",
    "postgres immediate",
    "database cut",
    "database half-open",
    "webhooks cut",
    "webhooks half-open",
    "no connection left",
    "pool exhausted",
    "disk full",
]
"""kill: SIGKILL; terminate: SIGTERM; freeze: SIGSTOP, and SIGCONT after a while; fast and immediate: restarts; cut: a reset of
every connection; half-open: nothing comes through any more, and nobody says so; no connection left: others have them all; pool
exhausted: each of the daemons' connections waits for a lock; disk full: Postgres is away, and the spool cannot grow."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MOST_DAEMONS: Final = 3


@dataclass(frozen=True, slots=True)
class Blow:
    """`victim`: which daemon, where one is meant; `lasts` in seconds, where it lasts."""

    kind: Kind
    victim: int
    lasts: float


@dataclass(frozen=True, slots=True)
class Schedule:
    seed: int
    daemons: int
    blows: tuple[Blow, ...]


def drawn(seed: int, *, blows: int = len(KINDS)) -> Schedule:
    """Every kind once before any comes again. Raises ValueError for fewer blows than kinds."""
    if blows < len(KINDS):
        raise ValueError(f"{blows} blows are fewer than the {len(KINDS)} kinds there are")
    dice = random.Random(seed)
    kinds: list[Kind] = []
    while len(kinds) < blows:
        kinds += dice.sample(KINDS, len(KINDS))
    daemons = dice.randint(1, MOST_DAEMONS)
    return Schedule(
        seed,
        daemons,
        tuple(
            Blow(kind, dice.randrange(daemons), round(dice.uniform(0.5, 3.0), 1))
            for kind in kinds[:blows]
        ),
    )
