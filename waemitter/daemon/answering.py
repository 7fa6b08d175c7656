"""Who answers a turn: the routes of the settings, each with its handlers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from waemitter.daemon.shared import Shared, secret
from waemitter.errors import UsageError
from waemitter.settings import Answering, RouteSettings
from waemitter.turns.handlers.chatwoot import Chatwoot
from waemitter.turns.handlers.http import Http, target_of
from waemitter.turns.handlers.python import Python, load_function
from waemitter.turns.handlers.reply import Reply
from waemitter.turns.handlers.sql import Sql
from waemitter.turns.handlers.sql.store import FunctionStore
from waemitter.turns.handlers.webhook_signature import key_of
from waemitter.turns.routes import Routes
from waemitter.turns.turn import Handler

Maker: TypeAlias = "Callable[[Answerers, RouteSettings, Answering], Handler]"


class Answerers:
    """Makes handlers of settings."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.functions = FunctionStore(shared.pool)

    def routes(self) -> Routes:
        """Give the routes of the settings. Raises UsageError for a handler that cannot be made."""
        settings = self.shared.settings
        handlers = {
            (route.name, each.variant): self._handler(route, each)
            for route in settings.routes
            for each in route.answering
        }
        window = settings.inbox.window
        return Routes(
            [route.route(window) for route in settings.routes], handlers=handlers, window=window
        )

    async def prepare(self) -> None:
        """Look for the functions of `sql` handlers. Raises UsageError, or DatabaseUnreachable."""
        named = {
            each.options.function: route.name
            for route in self.shared.settings.routes
            for each in route.answering
            if each.handler == "sql" and each.options.function is not None
        }
        for missing in await self.functions.missing(named) if named else ():
            raise UsageError(
                f"route '{named[missing]}': the database has no function {missing}(jsonb): create it, "
                "and grant EXECUTE on it"
            )

    def _handler(self, route: RouteSettings, answering: Answering) -> Handler:
        make = _MAKERS.get(answering.handler)
        if make is None:
            raise UsageError(
                f"route '{route.name}': nobody here is the handler '{answering.handler}'"
            )
        return make(self, route, answering)


def _reply(_: Answerers, __: RouteSettings, answering: Answering) -> Handler:
    return Reply(answering.replies, handover=answering.options.handover)


def _http(answerers: Answerers, route: RouteSettings, answering: Answering) -> Handler:
    tracing = answerers.shared.settings.tracing
    url = answering.options.url or ""
    text = secret(answering.secret)
    return Http(
        answerers.shared.session,
        url=url,
        key=None if text is None else key_of(text),
        timeout=answering.options.timeout or answerers.shared.settings.turns.forward_timeout,
        service=route.table.service,
        circuit=answerers.shared.circuits.to(target_of(url)),
        traced=tracing.ratio if tracing.enabled else None,
        clock=time.time,
    )


def _python(answerers: Answerers, route: RouteSettings, answering: Answering) -> Handler:
    beside = answerers.shared.settings.folder
    if str(beside) not in sys.path:
        sys.path.append(str(beside))  # last: what is installed is found first
    return Python(
        load_function(answering.options.function or ""),
        timeout=answering.options.timeout or answerers.shared.settings.turns.timeout,
        service=route.table.service,
    )


def _sql(answerers: Answerers, route: RouteSettings, answering: Answering) -> Handler:
    return Sql(
        answerers.functions,
        function=answering.options.function or "",
        timeout=answering.options.timeout or answerers.shared.settings.turns.timeout,
        service=route.table.service,
    )


def _agent(answerers: Answerers, _: RouteSettings, answering: Answering) -> Handler:
    return answerers.shared.agents[answering.options.agent or ""]


def _chatwoot(answerers: Answerers, route: RouteSettings, answering: Answering) -> Handler:
    desks = {desk.name: desk.inbox_id for desk in answerers.shared.settings.desks}
    name = answering.options.desk or next(iter(desks), "")
    if desks.get(name) is None:
        raise UsageError(
            f"route '{route.name}': the channel {name or 'chatwoot'} needs an inbox_id, that of an API inbox"
        )
    return Chatwoot(name)


_MAKERS: Final[Mapping[str, Maker]] = MappingProxyType(
    {
        "reply": _reply,
        "http": _http,
        "python": _python,
        "sql": _sql,
        "agent": _agent,
        "chatwoot": _chatwoot,
    }
)
"""By the kind of the handler."""
