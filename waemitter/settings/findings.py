"""What the sources gave, before anything is validated."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waemitter.errors import UsageError


class InvalidSettings(UsageError):
    """Settings are wrong; `problems` holds one line for each, and so does the message."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Found:
    """One value as a source gave it.

    `written` is the name that the user wrote and `shown` the value as written, for complaints;
    `origin` is what `check` says.
    """

    value: Any
    written: str
    origin: str
    shown: object


@dataclass(slots=True)
class Findings:
    """What loading has gathered so far: values and problems, and variables that have no effect."""

    values: dict[str, Found] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unused: dict[str, str] = field(default_factory=dict)

    def read_secret(self, path: Path, *, written: str) -> str | None:
        """Read a secret from its file without the line break at its end; None is a problem."""
        try:
            secret = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            reason = (error.strerror or "unreadable").lower()
            self.problems.append(f"{written}: cannot read {path}: {reason}")
            return None
        except UnicodeDecodeError:
            self.problems.append(f"{written}: {path} is not text")
            return None
        if not secret:
            self.problems.append(f"{written}: {path} is empty")
        return secret or None
