"""The `[[routes]]` of one file: what is wrong with them as findings, and what they come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from waemitter.errors import PayloadError
from waemitter.inbox.fields.offering import NEVER
from waemitter.settings.catalogue import ROUTE_ENTRIES, VARIANT_ENTRIES, did_you_mean
from waemitter.settings.complaints import complaint
from waemitter.settings.findings import Findings, Found
from waemitter.settings.metadata import Group
from waemitter.settings.routes import (
    Answering,
    HandlerOptions,
    RouteSettings,
    RouteTable,
    VariantTable,
    check_function,
)
from waemitter.settings.signing import signing_secret
from waemitter.turns.handlers.canned import KEYS, canned

_CALLED: Final = ("http", "python", "sql")
_OWNERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **dict.fromkeys((*KEYS, "handover"), ("reply",)),
        **dict.fromkeys(("url", "secret_env", "secret_file"), ("http",)),
        "function": ("python", "sql"),
        "timeout": _CALLED,
        "agent": ("agent",),
        "desk": ("chatwoot",),
    }
)
_NEEDED: Final[Mapping[str, str]] = MappingProxyType(
    {"http": "url", "python": "function", "sql": "function", "agent": "agent"}
)
_ROUTE_KEYS: Final = frozenset({*(entry.key for entry in ROUTE_ENTRIES), "variants"})
_VARIANT_KEYS: Final = frozenset(entry.key for entry in VARIANT_ENTRIES)

_T = TypeVar("_T", bound=Group)


@dataclass(frozen=True, slots=True)
class RouteTables:
    """The tables, the environment in which the secrets they name are, and the names of all agents."""

    file: Path
    tables: Sequence[Mapping[str, Any]]
    environ: Mapping[str, str]
    agents: Sequence[str]

    def resolve(self, findings: Findings) -> tuple[RouteSettings, ...]:
        """Check and complete every table; what is wrong is a finding."""
        routes: list[RouteSettings] = []
        for index, raw in enumerate(self.tables):
            name = raw.get("name")
            where = f"{self.file}: route {name!r}" if name else f"{self.file}: routes[{index}]"
            if route := self._route(where, raw, findings):
                routes.append(route)
        findings.problems += [
            f"{self.file}: {count} routes have the name {name!r}; it must be unique"
            for name, count in Counter(route.name for route in routes).items()
            if count > 1
        ]
        return tuple(routes)

    def _route(
        self, where: str, raw: Mapping[str, Any], findings: Findings
    ) -> RouteSettings | None:
        table = self._read(where, RouteTable, _ROUTE_KEYS, raw, findings)
        if table is None:
            return None
        findings.problems += [f"{where} {problem}" for problem in _about_conditions(table)]
        if table.variants:
            findings.problems += [
                f"{where}.{key} stands in a route with variants: move it into them"
                for key in raw
                if key in _OWNERS or key == "handler"
            ]
            written = [
                (f"{where}.variants[{place}]", each) for place, each in enumerate(table.variants)
            ]
            answering = [self._variant(at, each, findings) for at, each in written]
        else:
            answering = [self._answering(where, raw, table, None, 1.0, findings)]
        found = tuple(each for each in answering if each is not None)
        return RouteSettings(table=table, answering=found) if found else None

    def _variant(self, where: str, raw: Mapping[str, Any], findings: Findings) -> Answering | None:
        table = self._read(where, VariantTable, _VARIANT_KEYS, raw, findings)
        if table is None:
            return None
        return self._answering(where, raw, table, table.name, table.weight, findings)

    def _read(
        self,
        where: str,
        model: type[_T],
        keys: frozenset[str],
        raw: Mapping[str, Any],
        findings: Findings,
    ) -> _T | None:
        findings.problems += [
            f"{where} has no key '{key}'{did_you_mean(key, keys)}" for key in raw if key not in keys
        ]
        if not raw.get("name"):
            findings.problems.append(f"{where} has no name")
        try:
            return model.model_validate({key: raw[key] for key in raw if key in keys})
        except ValidationError as error:
            for details in error.errors(include_url=False):
                path = ".".join(str(step) for step in details["loc"] if step != "str")
                found = Found(None, f"{where}.{path}", str(self.file), shown=details["input"])
                findings.problems.append(complaint(details, found, secret=False))
            return None

    def _answering(
        self,
        where: str,
        raw: Mapping[str, Any],
        options: HandlerOptions,
        variant: str | None,
        weight: float,
        findings: Findings,
    ) -> Answering | None:
        kind = options.handler
        if kind is None:
            findings.problems.append(f"{where} has no handler: who is to answer?")
            return None
        before = len(findings.problems)
        findings.problems += [f"{where}{each}" for each in self._wrong(kind, raw, options)]
        replies: tuple[dict[str, Any], ...] = ()
        if kind == "reply":
            try:
                replies = canned({key: raw[key] for key in KEYS if key in raw})
            except PayloadError as error:
                findings.problems.append(f"{where}.{error}")
        secret = signing_secret(
            where,
            options,
            folder=self.file.parent,
            environ=self.environ,
            findings=findings,
        )
        if len(findings.problems) > before:
            return None
        return Answering(
            handler=kind,
            variant=variant or kind,
            weight=weight,
            options=options,
            secret=secret,
            replies=replies,
        )

    def _wrong(self, kind: str, raw: Mapping[str, Any], options: HandlerOptions) -> Iterator[str]:
        for key in raw:
            if key in _OWNERS and kind not in _OWNERS[key]:
                yield f".{key} is nothing for the handler '{kind}': it is for {' and '.join(_OWNERS[key])}"
        needed = _NEEDED.get(kind)
        if needed is not None and raw.get(needed) is None:
            yield f".{needed} is missing: the handler '{kind}' needs it"
        if kind in {"python", "sql"} and options.function is not None:
            try:
                check_function(kind, options.function)
            except ValueError as error:
                yield f".function {error} (it is {options.function!r})"
        if kind == "agent" and options.agent is not None and options.agent not in self.agents:
            yield f".agent is not a table [agents.<name>]{did_you_mean(options.agent, self.agents)}"


def _about_conditions(table: RouteTable) -> Iterator[str]:
    conditions = table.conditions
    yield from _about_fields(table)
    if table.fallback and conditions.about_messages:
        yield "is a fallback, which takes every message: remove what it asks of them"
    if not table.fallback and not conditions.about_messages and not conditions.about_contacts:
        yield (
            "takes no turn: add keywords, prefix, contains, regex, types, referral, field, contacts or percent, "
            "or fallback = true"
        )
    if table.ends_session and table.service:
        yield "has both ends_session and service: it cannot end what it begins"
    names = Counter(str(each.get("name", "")) for each in table.variants)
    for name, count in names.items():
        if name and count > 1:
            yield f"has {count} variants named {name!r}"


def _about_fields(table: RouteTable) -> Iterator[str]:
    conditions = table.conditions
    if table.event and not table.field:
        yield "asks for an event of no field: add field"
    if not table.field:
        return
    if conditions.words or table.types or table.referral is not None:
        yield "has a field, whose changes have no words: remove keywords, prefix, contains, regex, types and referral"
    if NEVER & conditions.fields:
        yield "asks for the field messages: what customers write needs none, remove it"
    if table.ends_session or table.buffer is not None:
        yield "has a field: a change waits for no window and ends no session, remove buffer and ends_session"
