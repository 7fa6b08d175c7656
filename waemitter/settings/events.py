"""The `[events.<name>]` tables of one file: what is wrong with them as findings, and what they come to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from waemitter.settings.catalogue import did_you_mean
from waemitter.settings.complaints import complaint
from waemitter.settings.findings import Findings, Found
from waemitter.settings.subscribing import EventSettings, EventTable
from waemitter.turns.handlers.webhook_signature import key_of

_TARGETS: Final = ("webhook", "nats", "kafka")
_OWNERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("secret_env", "secret_file"), "webhook"),
        **dict.fromkeys(("subject", "jetstream", "credentials_file"), "nats"),
        **dict.fromkeys(
            ("topic", "protocol", "mechanism", "username", "password_env", "password_file"), "kafka"
        ),
    }
)
RESERVED: Final = "opentelemetry"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class EventTables:
    """The tables, and the environment in which the secrets they name are."""

    file: Path
    tables: Mapping[str, Mapping[str, Any]]
    environ: Mapping[str, str]

    def resolve(self, findings: Findings) -> tuple[EventSettings, ...]:
        """Check and complete every table; what is wrong is a finding."""
        found = (self._subscription(name, raw, findings) for name, raw in self.tables.items())
        return tuple(each for each in found if each is not None)

    def _subscription(
        self, name: str, raw: Mapping[str, Any], findings: Findings
    ) -> EventSettings | None:
        where = f"{self.file}: events.{name}"
        if _NAME.fullmatch(name) is None:
            findings.problems.append(
                f"{where}: the name must be small letters, digits, - and _, 63 at the most"
            )
            return None
        if name == RESERVED:
            findings.problems.append(f"{where}: the name is taken by the traces; choose another")
            return None
        try:
            table = EventTable.model_validate(raw)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                key = str(details["loc"][0])
                if details["type"] == "extra_forbidden":
                    hint = did_you_mean(key, EventTable.model_fields)
                    findings.problems.append(f"{where} has no key '{key}'{hint}")
                else:
                    found = Found(raw.get(key), f"{where}.{key}", str(self.file), raw.get(key))
                    findings.problems.append(complaint(details, found, secret=True))
            return None
        before = len(findings.problems)
        findings.problems += [f"{where}{each}" for each in _contradictions(raw, table)]
        secret = self._secret(where, "secret", table.secret_env, table.secret_file, findings)
        password = self._secret(
            where, "password", table.password_env, table.password_file, findings
        )
        if secret is not None:
            try:
                key_of(secret.get_secret_value())
            except ValueError as error:
                findings.problems.append(f"{where}: the signing secret {error}")
        if len(findings.problems) > before:
            return None
        credentials = table.credentials_file and self.file.parent / table.credentials_file
        return EventSettings(
            name=name, table=table, secret=secret, password=password, credentials=credentials
        )

    def _secret(
        self, where: str, key: str, variable: str | None, path: Path | None, findings: Findings
    ) -> SecretStr | None:
        if variable is not None and path is not None:
            findings.problems.append(f"{where}.{key}_env and {key}_file are both set; keep one")
            return None
        if path is not None:
            value = findings.read_secret(self.file.parent / path, written=f"{where}.{key}_file")
        elif variable is not None:
            value = self.environ.get(variable)
            if not value:
                findings.problems.append(f"{where}.{key}_env names {variable}, which is not set")
        else:
            return None
        return SecretStr(value) if value else None


def _contradictions(raw: Mapping[str, Any], table: EventTable) -> Iterator[str]:
    if not table.types:
        yield " needs types: what is to be told"
    chosen = [each for each in _TARGETS if getattr(table, each)]
    if len(chosen) != 1:
        yield f" needs one of {', '.join(_TARGETS)}" + (", and only one" if chosen else "")
        return
    for key in raw:
        if key in _OWNERS and _OWNERS[key] != chosen[0]:
            yield f".{key} is for {_OWNERS[key]}, and this goes to {chosen[0]}"
