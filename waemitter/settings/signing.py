"""The secrets by which services know that we are asking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from waemitter.settings.findings import Findings
from waemitter.turns.handlers.webhook_signature import key_of


class Signed(Protocol):
    """A table that says where its secret is."""

    @property
    def secret_env(self) -> str | None: ...

    @property
    def secret_file(self) -> Path | None: ...


def signing_secret(
    where: str,
    table: Signed,
    *,
    folder: Path,
    environ: Mapping[str, str],
    findings: Findings,
) -> SecretStr | None:
    """Read it, from the environment or from a file beside the TOML file; None where none is named, and with a problem."""
    variable, path = table.secret_env, table.secret_file
    if variable is not None and path is not None:
        findings.problems.append(f"{where}.secret_env and secret_file are both set; keep one")
    if path is not None:
        value = findings.read_secret(folder / path, written=f"{where}.secret_file")
    elif variable is not None:
        value = environ.get(variable)
        if not value:
            findings.problems.append(f"{where}.secret_env names {variable}, which is not set")
    else:
        return None
    if not value:
        return None
    try:
        key_of(value)
    except ValueError as error:
        findings.problems.append(f"{where}: the signing secret {error}")
    return SecretStr(value)
