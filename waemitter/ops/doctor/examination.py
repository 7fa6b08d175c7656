"""All that can be looked at, in the order in which a newcomer would mend it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from waemitter.ops.doctor.agents import agent_findings
from waemitter.ops.doctor.chatwoot import chatwoot_findings
from waemitter.ops.doctor.database import database_findings
from waemitter.ops.doctor.door import door_findings
from waemitter.ops.doctor.finding import Finding, ok, problem, skipped
from waemitter.ops.doctor.meta import meta_findings
from waemitter.settings import Loaded, missing_to_run


async def examine(found: Loaded, *, url: str | None = None) -> AsyncIterator[Finding]:
    """Yield each finding as soon as it is known. `url`: the address that Meta was given, if that is to be tried."""
    settings = found.settings
    missing = missing_to_run(settings)
    for line in missing:
        reason, _, remedy = line.partition(": ")
        yield problem("settings", reason, remedy or "docs/getting-started.md begins with it")
    if not missing:
        yield ok("settings", "nothing that `waemitter run` needs is missing")
    database = settings.database
    if database.configured:
        dsn = None if database.url is None else database.url.get_secret_value()
        listen = None if database.listen_url is None else database.listen_url.get_secret_value()
        async for finding in database_findings(dsn, listen):
            yield finding
    else:
        yield skipped("database", "nothing says where it is")
    if settings.outbox.send_enabled:
        async for finding in meta_findings(settings):
            yield finding
    else:
        yield skipped("number", "a dry run: nothing is sent")
    async for finding in chatwoot_findings(settings):
        yield finding
    async for finding in agent_findings(settings):
        yield finding
    async for finding in door_findings(settings, url):
        yield finding
