"""The own address, knocked at as Meta would: a handshake, a webhook that is signed, one that is not."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from waemitter.daemon.knocking import EMPTY, PATH
from waemitter.errors import UsageError
from waemitter.ops.doctor.finding import Finding, ok, problem, skipped, warning
from waemitter.settings import Settings
from waemitter.whatsapp import signature

WITHIN: Final = aiohttp.ClientTimeout(total=10)
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 compared, not bound


async def door_findings(settings: Settings, url: str | None) -> AsyncIterator[Finding]:
    """`url`: the address that Meta was given; without one, the daemon's own on this machine.

    Raises UsageError when it is none.
    """
    base = _origin(url or own_address(settings))
    yield (port := await _port(settings, base, asked=url is not None))
    if port.verdict != "ok" or "free" in port.said:
        yield skipped("webhook", f"no daemon answers at {base}")
        return
    async with _session(settings, url) as session:
        yield await _handshake(session, settings, base)
        yield await _signed(session, settings, base)
        yield await _unsigned(session, base)


def _origin(url: str) -> URL:
    try:
        return URL(url).origin()
    except ValueError:
        raise UsageError("--url: give an address such as https://your.host") from None


def own_address(settings: Settings) -> str:
    http = settings.http
    host = EVERYWHERE.get(http.host, http.host)
    scheme = "https" if http.tls_cert else "http"
    return str(URL.build(scheme=scheme, host=host, port=http.port))


def _session(settings: Settings, url: str | None) -> aiohttp.ClientSession:
    # Our own certificate is for the name that the world calls, and is not for this machine's address.
    unverified = url is None and settings.http.tls_cert is not None
    connector = aiohttp.TCPConnector(ssl=not unverified)
    return aiohttp.ClientSession(timeout=WITHIN, connector=connector)


async def _port(settings: Settings, base: URL, *, asked: bool) -> Finding:
    async with _session(settings, str(base) if asked else None) as session:
        try:
            async with session.get(base / "health/live") as answer:
                ours = answer.status == HTTPStatus.OK and "status" in await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            if asked:
                return problem(
                    "port",
                    f"{base} does not answer: {str(error) or type(error).__name__}",
                    "Meta cannot reach it either: look at DNS, the certificate, the proxy, and the daemon behind it",
                )
            return _bindable(settings)
    if ours:
        return ok("port", f"a daemon answers at {base}")
    return problem(
        "port",
        f"something else answers at {base}",
        "set WAEMITTER_HTTP__PORT to a free port, or end what listens there",
    )


def _bindable(settings: Settings) -> Finding:
    host, port = settings.http.host, settings.http.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as error:
        return problem(
            "port",
            f"{host}:{port} cannot be bound: {error.strerror}",
            "set WAEMITTER_HTTP__PORT and __HOST to what this machine has, and no other program uses",
        )
    return ok("port", f"{host}:{port} is free; no daemon runs there yet")


async def _handshake(session: aiohttp.ClientSession, settings: Settings, base: URL) -> Finding:
    token = settings.whatsapp.verify_token
    if token is None:
        return problem(
            "handshake",
            "WHATSAPP_VERIFY_TOKEN is not set",
            "set it to a word of your own, and type the same into the app's webhook settings",
        )
    challenge = secrets.token_hex(8)
    query = {
        "hub.mode": "subscribe",
        "hub.verify_token": token.get_secret_value(),
        "hub.challenge": challenge,
    }
    async with session.get(base.with_path(PATH).with_query(query)) as answer:
        if answer.status == HTTPStatus.OK and await answer.text() == challenge:
            return ok("handshake", "the challenge comes back")
        return problem(
            "handshake",
            f"{answer.status}: the challenge does not come back",
            "the daemon runs with another WHATSAPP_VERIFY_TOKEN: start it again; or a proxy changes the query",
        )


async def _signed(session: aiohttp.ClientSession, settings: Settings, base: URL) -> Finding:
    if not settings.whatsapp.app_secrets:
        return problem(
            "signature",
            "WHATSAPP_APP_SECRET is not set: every webhook is refused",
            "copy it from the app's basic settings",
        )
    secret = settings.whatsapp.app_secrets[0].get_secret_value()
    status = await _post(session, base, {"X-Hub-Signature-256": signature.sign(secret, EMPTY)})
    if status == HTTPStatus.OK:
        return ok("signature", "a signed webhook is stored")
    if status == HTTPStatus.UNAUTHORIZED:
        return problem(
            "signature",
            "a webhook signed with WHATSAPP_APP_SECRET is refused",
            "the daemon runs with another secret: start it again; or a proxy changes the body",
        )
    return problem(
        "signature",
        f"a signed webhook is answered with {status}",
        "503: Postgres is away; anything else comes from what stands before the daemon",
    )


async def _unsigned(session: aiohttp.ClientSession, base: URL) -> Finding:
    status = await _post(session, base, {})
    if status == HTTPStatus.UNAUTHORIZED:
        return ok("stranger", "a webhook without a signature is refused")
    return warning(
        "stranger",
        f"a webhook without a signature is answered with {status}, not 401",
        "what stands before the daemon answers in its place: let it pass the request on as it is",
    )


async def _post(session: aiohttp.ClientSession, base: URL, headers: dict[str, str]) -> int:
    headers = {"Content-Type": "application/json", **headers}
    async with session.post(base.with_path(PATH), data=EMPTY, headers=headers) as answer:
        return answer.status
