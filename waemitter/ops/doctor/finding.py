"""What was found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, and not as well as it could
    PROBLEM = "problem"
    SKIPPED = "skipped"  # what it needs is not there


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination; a problem and a warning have a remedy."""

    check: str
    verdict: Verdict
    said: str
    remedy: str | None = None


def ok(check: str, said: str) -> Finding:
    return Finding(check, Verdict.OK, said)


def warning(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, Verdict.WARNING, said, remedy)


def problem(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, Verdict.PROBLEM, said, remedy)


def skipped(check: str, said: str) -> Finding:
    return Finding(check, Verdict.SKIPPED, said)
