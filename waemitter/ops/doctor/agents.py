"""The endpoints of the agents' models, asked what models they have: that costs no token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from waemitter.errors import UsageError
from waemitter.ops.doctor.finding import Finding, ok, problem
from waemitter.settings import AgentSettings, Settings
from waemitter.turns.agents.compatible import connected
from waemitter.turns.agents.provider import ProviderFailed

CHECK: Final = "agents"
WITHIN: Final = 10.0  # seconds
_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_UNLISTED: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
"""Some that complete chats list no models: they are there, and that is all there is to learn."""


async def agent_findings(settings: Settings) -> AsyncIterator[Finding]:
    """One for each endpoint and key, however many agents share them; nothing, where no agent is configured."""
    places: dict[tuple[str | None, str | None], list[AgentSettings]] = {}
    for agent in settings.agents:
        key = None if agent.api_key is None else agent.api_key.get_secret_value()
        places.setdefault((agent.base_url, key), []).append(agent)
    for (base_url, key), agents in places.items():
        try:
            async with connected(api_key=key, base_url=base_url) as provider:
                status = await provider.knock(timeout=WITHIN)
        except UsageError as error:
            reason, _, remedy = str(error).partition(": ")
            yield problem(CHECK, reason, remedy)
            return
        except ProviderFailed as failed:
            remedy = f"let this machine reach it, or correct {_settings(agents, 'base_url')}"
            yield problem(CHECK, f"{_who(agents, base_url)}: {failed}", remedy)
        else:
            yield _finding(agents, base_url, status)


def _finding(agents: Sequence[AgentSettings], base_url: str | None, status: int) -> Finding:
    who = _who(agents, base_url)
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return ok(CHECK, f"{who}: its models are listed")
    if status in _UNLISTED:
        return ok(CHECK, f"{who}: it answers; it lists no models ({status})")
    if status in _REFUSED:
        remedy = f"correct {_settings(agents, 'api_key_env')}"
        return problem(CHECK, f"{who}: it refuses the key ({status})", remedy)
    remedy = f"look at the endpoint, or correct {_settings(agents, 'base_url')}"
    return problem(CHECK, f"{who}: it answers {status}", remedy)


def _who(agents: Sequence[AgentSettings], base_url: str | None) -> str:
    place = urlsplit(base_url or "https://api.openai.com").netloc.rpartition("@")[2]
    return f"{', '.join(agent.name for agent in agents)} ({place})"


def _settings(agents: Sequence[AgentSettings], key: str) -> str:
    """Where the address or the key is set: in an agent's own table, or for all of them."""
    common = {"base_url": "OPENAI_BASE_URL", "api_key_env": "OPENAI_API_KEY"}[key]
    written: dict[str, None] = {}
    for agent in agents:
        own = getattr(agent.table, key)
        # A key is in the variable that the table names.
        name = f"agents.{agent.name}.base_url" if key == "base_url" else own
        written[common if own is None else name] = None
    return " and ".join(written)
