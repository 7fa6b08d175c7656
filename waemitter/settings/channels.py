"""The numbers to send from: `[[channels]]` tables, or one channel from the WHATSAPP_* settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from waemitter.settings.catalogue import BY_NAME, CHANNEL_ENTRIES, did_you_mean
from waemitter.settings.complaints import complaint, rule
from waemitter.settings.findings import Findings, Found
from waemitter.settings.model import Settings
from waemitter.settings.sending import (
    CHATWOOT_RATE,
    ChannelSettings,
    ChannelTable,
    ChatwootChannel,
)
from waemitter.settings.values import Secret, Secrets, Token

# Where a channel takes from what its table leaves out.
FALLBACKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "phone_number_id": "whatsapp.phone_number_id",
        "access_token": "whatsapp.access_token",
        "app_secrets": "whatsapp.app_secrets",
        "verify_token": "whatsapp.verify_token",
        "messages_per_second": "channel.messages_per_second",
        "pair_seconds": "channel.pair_seconds",
        "pair_burst": "channel.pair_burst",
        "unconfirmed_policy": "outbox.unconfirmed_policy",
        "window_policy": "channel.window_policy",
    }
)
_KEYS: Final = frozenset(entry.key for entry in CHANNEL_ENTRIES)
_SECRETS: Final[Mapping[str, TypeAdapter[Any]]] = MappingProxyType(
    {
        "access_token": TypeAdapter(Token),
        "app_secrets": TypeAdapter(Secrets),
        "verify_token": TypeAdapter(Secret),
    }
)
_ABSENT: Final = MappingProxyType({"access_token": None, "app_secrets": (), "verify_token": None})


@dataclass(frozen=True, slots=True)
class ChannelTables:
    """The `[[channels]]` of one file, and the environment in which the secrets they name are."""

    file: Path
    tables: Sequence[Mapping[str, Any]]
    environ: Mapping[str, str]

    def resolve(
        self, settings: Settings, findings: Findings
    ) -> tuple[tuple[ChannelSettings, ...], tuple[ChatwootChannel, ...]]:
        """Complete every table from the settings of all channels, numbers and inboxes; what is wrong is a finding."""
        channels: list[ChannelSettings] = []
        desks: list[ChatwootChannel] = []
        for index, raw in enumerate(self.tables):
            where = f"{self.file}: channels[{index}]"
            table = self._read(where, raw, findings)
            if table is None:
                continue
            if table.kind == "chatwoot":
                desks.append(_desk(where, table, settings, findings))
            else:
                channels.append(self._channel(where, table, settings, findings))
        self._compare(channels, desks, findings)
        return tuple(channels) or (default_channel(settings),), tuple(desks)

    def _compare(
        self,
        channels: Sequence[ChannelSettings],
        desks: Sequence[ChatwootChannel],
        findings: Findings,
    ) -> None:
        for what, values in (
            ("name", [*(each.name for each in channels), *(each.name for each in desks)]),
            ("inbox_id", [each.inbox_id for each in desks]),
            ("phone_number_id", [channel.phone_number_id for channel in channels]),
        ):
            findings.problems += [
                f"{self.file}: {count} channels have the {what} {value!r}; it must be unique"
                for value, count in Counter(values).items()
                if value is not None and count > 1
            ]

    def _read(self, where: str, raw: Mapping[str, Any], findings: Findings) -> ChannelTable | None:
        findings.problems += [
            f"{where} has no key '{key}'{did_you_mean(key, _KEYS)}"
            for key in raw
            if key not in _KEYS
        ]
        try:
            return ChannelTable.model_validate({key: raw[key] for key in raw if key in _KEYS})
        except ValidationError as error:
            for details in error.errors(include_url=False):
                key = str(details["loc"][0])
                found = Found(raw[key], f"{where}.{key}", str(self.file), shown=raw[key])
                findings.problems.append(complaint(details, found, secret=False))
            return None

    def _channel(
        self, where: str, table: ChannelTable, settings: Settings, findings: Findings
    ) -> ChannelSettings:
        if table.inbox_id is not None:
            findings.problems.append(
                f'{where}.inbox_id is nothing for a number: say kind = "chatwoot"'
            )
        own = table.model_dump(include=set(FALLBACKS), exclude_none=True)
        own |= self._secret(f"{where}.access_token", table, "access_token", findings)
        own |= self._secret(f"{where}.app_secret", table, "app_secrets", findings)
        own |= self._secret(f"{where}.verify_token", table, "verify_token", findings)
        return _completed(table.name, own, settings, access_token_env=table.access_token_env)

    def _secret(
        self, where: str, table: ChannelTable, key: str, findings: Findings
    ) -> dict[str, Any]:
        """Find what the table names; nothing when it names nothing, so that it can fall back."""
        written = where.rpartition(".")[2]
        variable: str | None = getattr(table, f"{written}_env")
        path: Path | None = getattr(table, f"{written}_file")
        if variable is not None and path is not None:
            findings.problems.append(
                f"{where}_env and {written}_file are both set; keep one of them"
            )
        if path is not None:
            value = findings.read_secret(self.file.parent / path, written=f"{where}_file")
        elif variable is not None:
            value = self.environ.get(variable)
        else:
            return {}
        if not value:
            # Another channel's token must not stand in for the one that is missing here.
            return {key: _ABSENT[key]}
        try:
            return {key: _SECRETS[key].validate_python(value)}
        except ValidationError as error:
            named = variable or f"{where}_file"
            findings.problems += [f"{named} {rule(each)}" for each in error.errors()]
            return {}


def _desk(
    where: str, table: ChannelTable, settings: Settings, findings: Findings
) -> ChatwootChannel:
    known = {"name", "kind", "inbox_id", "messages_per_second"}
    findings.problems += [
        f"{where}.{key} is nothing for a Chatwoot inbox"
        for key in sorted(table.model_fields_set - known)
    ]
    if settings.chatwoot.base_url is None:
        findings.problems.append(f"{where} is a Chatwoot inbox: set CHATWOOT_BASE_URL")
    rate = table.messages_per_second
    return ChatwootChannel(
        name=table.name,
        inbox_id=table.inbox_id,
        messages_per_second=CHATWOOT_RATE if rate is None else rate,
    )


def default_desks(settings: Settings) -> tuple[ChatwootChannel, ...]:
    """Make the channel `chatwoot` of the CHATWOOT_* settings, if they name one."""
    chatwoot = settings.chatwoot
    if chatwoot.base_url is None:
        return ()
    inbox_id, rate = chatwoot.inbox_id, CHATWOOT_RATE
    return (ChatwootChannel(name="chatwoot", inbox_id=inbox_id, messages_per_second=rate),)


def default_channel(settings: Settings) -> ChannelSettings:
    """Make the channel `default` of the WHATSAPP_* settings, whether they are complete or not."""
    return _completed("default", {}, settings)


def _completed(
    name: str,
    own: Mapping[str, Any],
    settings: Settings,
    *,
    access_token_env: str | None = None,
) -> ChannelSettings:
    values = {
        key: own[key] if key in own else _lookup(settings, FALLBACKS[key]) for key in FALLBACKS
    }
    variable = access_token_env or BY_NAME["whatsapp.access_token"].environment
    return ChannelSettings(name=name, access_token_env=variable, **values)


def _lookup(settings: Settings, name: str) -> Any:
    table, _, key = name.partition(".")
    return getattr(getattr(settings, table), key)


def channel_origins(
    channels: Iterable[ChannelSettings], tables: ChannelTables, origins: Mapping[str, str]
) -> dict[str, str]:
    """Say of each channel's values whether its table has them, or which setting they came from."""
    found: dict[str, str] = {}
    by_name = {str(table.get("name", "default")): table for table in tables.tables}
    for channel in channels:
        if channel.name not in by_name:
            continue  # no table is of a number: it is of the settings
        written = {key.removesuffix("_env").removesuffix("_file") for key in by_name[channel.name]}
        written |= {"app_secrets"} if "app_secret" in written else set()
        for key, fallback in FALLBACKS.items():
            origin = str(tables.file) if key in written else f"{fallback}, {origins[fallback]}"
            found[f"channels.{channel.name}.{key}"] = origin
    return found
