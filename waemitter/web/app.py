"""The HTTP server: which path is answered by whom, and how long a client may take."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import http_exceptions, web
from aiohttp.typedefs import Handler

from waemitter.errors import UsageError
from waemitter.observe.events import Events
from waemitter.observe.metrics import Metrics
from waemitter.web.api.serving import Api
from waemitter.web.chatwoot import PATHS as CHATWOOT_PATHS
from waemitter.web.chatwoot import ChatwootReceiver
from waemitter.web.dashboard.site import Dashboard
from waemitter.web.door import DOOR, MOST_CONNECTIONS, BoundedRunner, Door
from waemitter.web.health import Health
from waemitter.web.middleware import add_headers, traced
from waemitter.web.webhooks import MAX_BODY, WebhookReceiver

PREFIXES: Final = ("", "/functions/v1")
"""Every path is answered under each: those of older systems began with the second."""

WEBHOOK_PATHS: Final = (
    "/webhooks/whatsapp",
    "/api/webhooks/whatsapp/status",
    "/wa-webhook-core",
)
HEALTH_PATHS: Final = ("/health", "/wa-webhook-core/health", "/wa-webhook/health")
METRICS_PATHS: Final = ("/metrics", "/wa-webhook/metrics")

KEEPALIVE: Final = 75.0
"""Seconds that a connection may be idle, or take for a request's headers."""
LINGER: Final = 5.0
"""Seconds for which the rest of a refused body is read, so that its sender sees the refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is served; each brings its own state."""

    webhooks: WebhookReceiver
    health: Health
    metrics: Metrics
    api: Api
    events: Events
    dashboard: Dashboard | None = None
    chatwoot: ChatwootReceiver | None = None


def build_app(parts: Parts, *, public: bool = True, internal: bool = True) -> web.Application:
    """Put the routes together.

    `public` ones are what strangers may reach: webhooks and liveness. `internal` is all the rest.
    """
    app = web.Application(middlewares=[traced(parts.events)], client_max_size=MAX_BODY)
    app.on_response_prepare.append(add_headers)
    for prefix in PREFIXES:
        app.router.add_get(prefix + "/health/live", parts.health.live)
    if public:
        paths = (prefix + path for prefix in PREFIXES for path in WEBHOOK_PATHS)
        app[DOOR] = Door(paths, parts.webhooks.receive, parts.webhooks.receive_at_once)
        _add_public(app.router, parts)
    if internal:
        _add_internal(app.router, parts)
    return app


def _add_public(router: web.UrlDispatcher, parts: Parts) -> None:
    for prefix in PREFIXES:
        for path in WEBHOOK_PATHS:
            router.add_get(prefix + path, parts.webhooks.verify, allow_head=False)
            router.add_post(prefix + path, parts.webhooks.receive)
    if parts.chatwoot is not None:
        for prefix in PREFIXES:
            for path in CHATWOOT_PATHS:
                router.add_post(prefix + path, parts.chatwoot.receive)
                router.add_post(f"{prefix}{path}/{{secret}}", parts.chatwoot.receive)
    parts.api.add_routes(router, prefixes=PREFIXES, hooks=True)


def _add_internal(router: web.UrlDispatcher, parts: Parts) -> None:
    for prefix in PREFIXES:
        router.add_get(prefix + "/health/ready", parts.health.ready)
        for path in HEALTH_PATHS:
            router.add_get(prefix + path, parts.health.report)
        for path in METRICS_PATHS:
            router.add_get(prefix + path, _exposition(parts.metrics))
    parts.api.add_routes(router, prefixes=PREFIXES, hooks=False)
    if parts.dashboard is not None:
        parts.dashboard.add_routes(router)


def _exposition(metrics: Metrics) -> Handler:
    async def expose(request: web.Request) -> web.Response:
        if _asks_for_json(request.headers.get("Accept", "")):
            return web.Response(
                body=orjson.dumps(metrics.as_json()), content_type="application/json"
            )
        body, content_type = metrics.render()
        return web.Response(body=body, headers={"Content-Type": content_type})

    return expose


def _asks_for_json(accept: str) -> bool:
    """Only by name: Prometheus and curl send wildcards, and mean the text."""
    ranges = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return "application/json" in ranges


@asynccontextmanager
async def serve(
    app: web.Application,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    keepalive_timeout: float = KEEPALIVE,
    shutdown_timeout: float = 10.0,
    most_connections: int = MOST_CONNECTIONS,
) -> AsyncIterator[str]:
    """Serve until the block ends; give the bound address as a URL (`port` 0 takes a free one).

    On leaving, no connection is accepted any more and idle ones are closed; requests in hand get
    `shutdown_timeout` seconds to be answered. Who comes when there are `most_connections` is
    answered 503 and hung up on. Raises UsageError when the address cannot be bound.
    """
    runner = BoundedRunner(
        app,
        most_connections=most_connections,
        handle_signals=False,
        access_log=None,
        logger=_protocol_logger(),
        keepalive_timeout=keepalive_timeout,
        lingering_time=LINGER,
        shutdown_timeout=shutdown_timeout,
        handler_cancellation=False,  # who hangs up does not stop what is being stored
        auto_decompress=False,  # a signature is of the bytes that came over the wire
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port} ({error.strerror}): "
                "free it, or choose others with WAEMITTER_HTTP__HOST and WAEMITTER_HTTP__PORT"
            ) from error
        yield _url(runner, "http" if tls is None else "https")
    finally:
        await runner.cleanup()


def _protocol_logger() -> logging.Logger:
    logger = logging.getLogger("aiohttp.server")
    logger.addFilter(_is_ours)  # adding it again changes nothing
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    """Drop what clients get wrong in HTTP itself: any stranger could fill the log with it."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, http_exceptions.HttpProcessingError)


def _url(runner: web.AppRunner, scheme: str) -> str:
    host, port, *_ = runner.addresses[0]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
