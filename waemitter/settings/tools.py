"""The tools of agents: `[[agents.<name>.tools]]`, their schemas and secrets read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from waemitter.errors import UsageError
from waemitter.settings.answering import NO_PARAMETERS, ToolSettings, ToolTable
from waemitter.settings.findings import Findings
from waemitter.settings.signing import signing_secret


def tools_of(
    where: str,
    tables: Sequence[ToolTable],
    *,
    folder: Path,
    environ: Mapping[str, str],
    findings: Findings,
) -> tuple[ToolSettings, ...]:
    """Complete an agent's tools; what is wrong is a finding. `folder`: where the TOML file is."""
    tools = []
    for index, table in enumerate(tables):
        place = f"{where}.tools[{index}]"
        if table.name in {other.name for other in tables[:index]} or not table.name:
            findings.problems.append(f"{place} needs a name that no other tool has")
        for key in ("url", "description"):
            if not getattr(table, key):
                findings.problems.append(f"{place}.{key} is missing")
        secret = signing_secret(place, table, folder=folder, environ=environ, findings=findings)
        parameters = _parameters(place, table, folder, findings)
        tools.append(
            ToolSettings(
                name=table.name,
                description=table.description,
                url=table.url or "",
                parameters=parameters,
                timeout=table.timeout,
                secret=secret,
            )
        )
    return tuple(tools)


def _parameters(where: str, table: ToolTable, folder: Path, findings: Findings) -> dict[str, Any]:
    from waemitter.turns.agents.schemas import complaint_about  # noqa: PLC0415  only where an agent has tools

    schema: Any = dict(NO_PARAMETERS) if table.parameters is None else table.parameters
    if table.parameters_file is not None:
        if table.parameters is not None:
            findings.problems.append(
                f"{where}: parameters and parameters_file are both set; keep one"
            )
        text = findings.read_secret(
            folder / table.parameters_file, written=f"{where}.parameters_file"
        )
        if text is None:
            return {}
        try:
            schema = json.loads(text)
        except ValueError:
            findings.problems.append(f"{where}.parameters_file: {table.parameters_file} is no JSON")
            return {}
    try:
        wrong = complaint_about(schema) if isinstance(schema, dict) else "must be an object"
    except UsageError as error:
        wrong = str(error)
    if wrong is not None:
        findings.problems.append(f"{where}.parameters {wrong}")
        return {}
    read: dict[str, Any] = schema
    return read
