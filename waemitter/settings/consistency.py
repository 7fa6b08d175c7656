"""Settings that are right by themselves and wrong together, or not enough to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from waemitter.settings.durations import format_duration
from waemitter.settings.model import Settings

# A claim hands out send slots this far ahead; the row is leased from the claim, not from the slot.
SLOT_HORIZON: Final = 0.2
# Between an answer and its settled row stand the batch that it waits for and one statement.
SETTLE_MARGIN: Final = 0.5

_OR_DRY: Final = ", or WAEMITTER_OUTBOX__SEND_ENABLED=false for a dry run"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A complaint about several settings, by their dotted names."""

    names: frozenset[str]
    complaint: str


def contradictions(settings: Settings, written: Callable[[str], str]) -> Iterator[Contradiction]:
    """Find what cannot hold together; `written` gives the name a user knows a setting by."""
    lease, timeout = settings.outbox.lease, settings.outbox.request_timeout
    least = round(timeout + SLOT_HORIZON + SETTLE_MARGIN, 3)
    if lease <= least:
        yield Contradiction(
            frozenset({"outbox.lease", "outbox.request_timeout"}),
            f"{written('outbox.lease')} ({format_duration(lease)}) must be more than "
            f"{format_duration(least)}: {written('outbox.request_timeout')} "
            f"({format_duration(timeout)}), {format_duration(SLOT_HORIZON)} until a claimed row's "
            f"slot and {format_duration(SETTLE_MARGIN)} to write the outcome; else another daemon "
            "takes over a row whose request is still under way",
        )
    if (settings.http.tls_cert is None) != (settings.http.tls_key is None):
        yield Contradiction(
            frozenset({"http.tls_cert", "http.tls_key"}),
            f"{written('http.tls_cert')} and {written('http.tls_key')} go together; one is missing",
        )
    if settings.media.directory and settings.media.s3_bucket:
        yield Contradiction(
            frozenset({"media.directory", "media.s3_bucket"}),
            f"{written('media.directory')} and {written('media.s3_bucket')} are both set; keep one",
        )
    if (settings.media.s3_access_key_id is None) != (settings.media.s3_secret_access_key is None):
        yield Contradiction(
            frozenset({"media.s3_access_key_id", "media.s3_secret_access_key"}),
            f"{written('media.s3_access_key_id')} and {written('media.s3_secret_access_key')} go "
            "together; one is missing",
        )
    if settings.http.admin_port and settings.http.admin_port == settings.http.port:
        yield Contradiction(
            frozenset({"http.admin_port", "http.port"}),
            f"{written('http.admin_port')} must differ from {written('http.port')} "
            f"(both are {settings.http.port})",
        )


def missing_to_run(settings: Settings) -> tuple[str, ...]:
    """Name what a daemon still needs, one line each; empty when it can run.

    No part of `load`, since many commands need less than a daemon does.
    """
    missing: list[str] = []
    if not settings.database.configured:
        missing.append("DATABASE_URL is not set, nor are libpq's PGHOST, PGDATABASE or PGSERVICE")
    missing += _missing_for_chatwoot(settings)
    if settings.outbox.send_enabled:
        for channel in settings.channels:
            where = f"channel '{channel.name}'"
            unset = channel.access_token is None and channel.phone_number_id is None
            if unset and settings.desks and channel.name == "default":
                continue  # Chatwoot has the number
            if channel.access_token is None:
                missing.append(
                    f"{where} has no access token: set {channel.access_token_env}{_OR_DRY}"
                )
            if channel.phone_number_id is None:
                missing.append(f"{where} has no number: set WHATSAPP_PHONE_NUMBER_ID{_OR_DRY}")
    return tuple(missing)


def _missing_for_chatwoot(settings: Settings) -> Iterator[str]:
    chatwoot = settings.chatwoot
    asked = {
        route.name: each.options.desk
        for route in settings.routes
        for each in route.answering
        if each.handler == "chatwoot"
    }
    if chatwoot.base_url is None:
        for route in asked:
            yield f"route '{route}' is answered in Chatwoot: set CHATWOOT_BASE_URL"
        return
    if chatwoot.account_id is None:
        yield "CHATWOOT_BASE_URL is set, and CHATWOOT_ACCOUNT_ID is not"
    if chatwoot.api_token is None and settings.outbox.send_enabled:
        yield f"CHATWOOT_BASE_URL is set, and CHATWOOT_API_TOKEN is not{_OR_DRY}"
    names = [each.name for each in settings.desks]
    there = f"the channels of kind chatwoot are {', '.join(names)}"
    if chatwoot.desk is not None and chatwoot.desk not in names:
        yield f"chatwoot.desk is {chatwoot.desk!r}: {there}"
    for route, desk in asked.items():
        if desk is None and len(names) > 1:
            yield f"route '{route}' names no desk: {there}"
        elif desk is not None and desk not in names:
            yield f"route '{route}': its desk is {desk!r}, and {there}"
