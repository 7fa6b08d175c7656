"""The agents: `[agents.<name>]` tables, completed with the general settings, their prompts read from their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from waemitter.settings.answering import (
    AgentSettings,
    AgentTable,
    AgentVariantTable,
    ReviewSettings,
    ReviewTable,
    ToolTable,
    VariantSettings,
)
from waemitter.settings.catalogue import did_you_mean
from waemitter.settings.complaints import complaint, rule
from waemitter.settings.durations import format_duration
from waemitter.settings.findings import Findings, Found
from waemitter.settings.metadata import Group
from waemitter.settings.model import Settings
from waemitter.settings.tools import tools_of
from waemitter.settings.values import Token

_TOKEN: Final[TypeAdapter[Any]] = TypeAdapter(Token)
_NESTED: Final[Mapping[str, type[Group]]] = {
    "variants": AgentVariantTable,
    "review": ReviewTable,
    "tools": ToolTable,
}
_OWN: Final = "default"
"""What the only variant of an agent without variants is called."""


@dataclass(frozen=True, slots=True)
class AgentTables:
    """The `[agents.*]` of one file, and the environment in which the keys they name are."""

    file: Path
    tables: Mapping[str, Mapping[str, Any]]
    environ: Mapping[str, str]

    def resolve(self, settings: Settings, findings: Findings) -> tuple[AgentSettings, ...]:
        """Complete every table; what is wrong is a finding."""
        found = (self._agent(name, raw, settings, findings) for name, raw in self.tables.items())
        return tuple(agent for agent in found if agent is not None)

    def _agent(
        self, name: str, raw: Mapping[str, Any], settings: Settings, findings: Findings
    ) -> AgentSettings | None:
        where = f"{self.file}: agents.{name}"
        try:
            table = AgentTable.model_validate(raw)
        except ValidationError as error:
            findings.problems += [
                _complaint(where, each, raw, self.file) for each in error.errors(include_url=False)
            ]
            return None
        before = len(findings.problems)
        findings.problems += _contradictions(where, table, settings)
        key = self._key(where, table, settings, findings)
        variants = self._variants(where, table, findings)
        review = self._review(where, table.review, findings) if table.review else None
        tools = tools_of(
            where,
            table.tools,
            folder=self.file.parent,
            environ=self.environ,
            findings=findings,
        )
        if len(findings.problems) > before:
            return None
        return AgentSettings(
            name=name,
            table=table,
            base_url=table.base_url or settings.openai.base_url,
            api_key=key,
            variants=variants,
            review=review,
            tools=tools,
        )

    def _key(
        self, where: str, table: AgentTable, settings: Settings, findings: Findings
    ) -> Token | None:
        if table.api_key_env is None:
            return settings.openai.api_key
        value = self.environ.get(table.api_key_env)
        if not value:
            findings.problems.append(f"{where}.api_key_env: {table.api_key_env} is not set")
            return None
        try:
            key: Token = _TOKEN.validate_python(value)
        except ValidationError as error:
            findings.problems += [f"{table.api_key_env} {rule(each)}" for each in error.errors()]
            return None
        return key

    def _variants(
        self, where: str, table: AgentTable, findings: Findings
    ) -> tuple[VariantSettings, ...]:
        own = AgentVariantTable.model_validate(
            {
                "name": _OWN,
                **table.model_dump(include=set(AgentVariantTable.model_fields) - {"name"}),
            }
        )
        prompt = self._prompt(where, own, "system_prompt", findings)
        variants = []
        for index, each in enumerate(table.variants):
            place = f"{where}.variants[{index}]"
            if each.name in {other.name for other in table.variants[:index]} or not each.name:
                findings.problems.append(f"{place} needs a name that no other variant has")
            theirs = self._prompt(place, each, "system_prompt", findings) or prompt
            variants.append(self._variant(place, each, own, theirs, findings))
        if not table.variants:
            variants.append(self._variant(where, own, own, prompt, findings))
        elif not any(each.weight for each in table.variants):
            findings.problems.append(f"{where}.variants all have the weight 0")
        return tuple(variant for variant in variants if variant is not None)

    def _variant(
        self,
        where: str,
        table: AgentVariantTable,
        own: AgentVariantTable,
        prompt: str | None,
        findings: Findings,
    ) -> VariantSettings | None:
        values = own.model_dump() | table.model_dump(exclude_none=True)
        missing = [] if values["model"] else ["a model"]
        missing += [] if prompt else ["a system_prompt or a system_prompt_file"]
        findings.problems += [f"{where} needs {what}" for what in missing]
        if missing:
            return None
        values = {key: values[key] for key in VariantSettings.model_fields}
        return VariantSettings(**(values | {"system_prompt": prompt}))

    def _review(self, where: str, table: ReviewTable, findings: Findings) -> ReviewSettings | None:
        prompt = self._prompt(f"{where}.review", table, "prompt", findings)
        if prompt is None:
            findings.problems.append(f"{where}.review needs a prompt or a prompt_file")
            return None
        return ReviewSettings(mode=table.mode, prompt=prompt, model=table.model)

    def _prompt(
        self,
        where: str,
        table: AgentVariantTable | ReviewTable,
        key: Literal["system_prompt", "prompt"],
        findings: Findings,
    ) -> str | None:
        text: str | None = getattr(table, key)
        path: Path | None = getattr(table, f"{key}_file")
        if text is not None and path is not None:
            findings.problems.append(f"{where}: {key} and {key}_file are both set; keep one")
        if path is None:
            return text
        return findings.read_secret(self.file.parent / path, written=f"{where}.{key}_file")


def _contradictions(where: str, table: AgentTable, settings: Settings) -> list[str]:
    """An agent that has less time than whoever waits for it can still say its fallback."""
    waiting = {
        "inbox.lock_lease": settings.inbox.lock_lease,
        "turns.timeout": settings.turns.timeout,
    }
    blind = table.images and not settings.media.kept
    return [
        f"{where}.images needs a place where files are kept: media.directory or media.s3_bucket"
    ] * blind + [
        f"{where}.timeout must be less than {name} ({format_duration(longest)})"
        for name, longest in waiting.items()
        if table.timeout >= longest
    ]


def _complaint(where: str, details: ErrorDetails, raw: Mapping[str, Any], file: Path) -> str:
    """Name the key as it is written: agents.assistant.variants[1].weight."""
    path: Sequence[str | int] = details["loc"]
    if details["type"] == "extra_forbidden":
        parent, known = _written(where, path[:-1]), _NESTED.get(str(path[0]), AgentTable)
        if len(path) == 1:
            known = AgentTable
        return f"{parent} has no key '{path[-1]}'{did_you_mean(str(path[-1]), known.model_fields)}"
    shown: Any = raw
    for part in path:
        try:
            shown = shown[part]
        except (KeyError, IndexError, TypeError):
            break
    return complaint(
        details, Found(shown, _written(where, path), str(file), shown=shown), secret=False
    )


def _written(where: str, path: Sequence[str | int]) -> str:
    return where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
