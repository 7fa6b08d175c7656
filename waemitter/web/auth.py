"""Who asks, and what he may: API keys, or the machine itself where there are none.

A key is a bearer secret. What the database keeps of it is the SHA-256 of 256 random bits, which no
guessing turns back; a slow hash would protect only secrets that people think up. Settings may hold
keys too, and those are hashed on the way in, so that every comparison is one of digests, in
constant time. A revoked key is refused a second later at the latest.

Without any key, callers on this machine's loopback may do everything, and nobody else anything.
What came through a proxy, or out of a web page of somebody else, is not taken for local.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol
from urllib.parse import urlsplit

from aiohttp import web

from waemitter.errors import DatabaseUnreachable
from waemitter.web.limits import Buckets
from waemitter.web.problems import Problem
from waemitter.web.scopes import SCOPES, Scope, covers

LOOK_AGAIN: Final = 1.0
"""Seconds for which the list of keys is good."""
BURST_SECONDS: Final = 2.0
"""A caller may spend so many seconds' worth of requests at once."""
FAILURES_PER_SECOND: Final = 1.0
FAILURES_AT_ONCE: Final = 20
"""An address that guesses keys is soon not listened to any more."""

_ACTOR: Final = re.compile(r"[\w.:/+=@ -]{1,128}")
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is kept; `id` is None for one of the settings."""

    id: int | None
    name: str
    digest: bytes
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the key's name, and the person that the client says it acts for."""

    key: str
    scopes: frozenset[str]
    actor: str | None = None


class KeyRing(Protocol):
    async def active(self, used: Sequence[int]) -> Sequence[Key]:
        """The keys that are good now; notes that those of `used` were."""


def digest(secret: str) -> bytes:
    """Return what is kept of a secret."""
    # What is not UTF-8 in a header comes as lone surrogates.
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()


class Authenticator:
    def __init__(
        self,
        *,
        fixed: Mapping[str, Iterable[str]],
        ring: KeyRing,
        rate: float,
        clock: Callable[[], float],
    ) -> None:
        """`fixed`: the settings' secrets with their scopes. `rate`: requests a second of one caller."""
        self._fixed = [
            Key(None, f"settings {number}", digest(secret), frozenset(scopes))
            for number, (secret, scopes) in enumerate(fixed.items(), start=1)
        ]
        self._ring = ring
        self._requests = Buckets(rate=rate, burst=rate * BURST_SECONDS)
        self._failures = Buckets(rate=FAILURES_PER_SECOND, burst=FAILURES_AT_ONCE)
        self._clock = clock
        self._made: Sequence[Key] | None = None
        self._looked_at = float("-inf")
        self._looking: Final = asyncio.Lock()
        self._used: set[int] = set()

    async def admit(
        self,
        request: web.Request,
        needed: Scope | None,
        *,
        presented: str | None = None,
        metered: bool = True,
    ) -> Caller:
        """Tell who asks, if he may; raises Problem with 401, 403, 429 or 503.

        `presented`: a key that came otherwise than as a bearer. What is not `metered` has another bound than the rate.
        """
        address = _address_of(request)
        if wait := self._failures.wait(address, self._clock()):
            raise _too_often(wait)
        key = await self._identify(request, address, presented or _bearer(request))
        if metered and (
            wait := self._requests.take(f"{key.name} {key.id or address}", self._clock())
        ):
            raise _too_often(wait)
        if not covers(key.scopes, needed):
            raise Problem(
                HTTPStatus.FORBIDDEN, f"This key lacks the scope {needed}: use one that has it."
            )
        if key.id is not None:
            self._used.add(key.id)
        return Caller(key.name, key.scopes, _actor(request))

    async def _identify(self, request: web.Request, address: str, presented: str | None) -> Key:
        key = self._find(self._fixed, presented)
        if key is not None:
            return key
        made = await self._made_keys()
        if not self._fixed and not made:
            if _is_local(request):
                return Key(None, "loopback", b"", frozenset(SCOPES))
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "There is no API key yet, so only callers on the daemon's own machine are "
                "answered: make one with `waemitter keys create`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        key = self._find(made, presented)
        if key is None:
            self._failures.take(address, self._clock())
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "Send an API key: Authorization: Bearer KEY."
                if presented is None
                else "This API key is unknown, revoked or has expired.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return key

    @staticmethod
    def _find(keys: Sequence[Key], presented: str | None) -> Key | None:
        if presented is None:
            return None
        mine, found = digest(presented), None
        for key in keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(key.digest, mine):
                found = key
        return found

    async def _made_keys(self) -> Sequence[Key]:
        """The database's keys; those last seen, while it is away."""
        async with self._looking:
            if self._clock() - self._looked_at >= LOOK_AGAIN:
                used, self._used = list(self._used), set()
                try:
                    self._made = await self._ring.active(used)
                except DatabaseUnreachable:
                    if self._made is None:
                        raise Problem(
                            HTTPStatus.SERVICE_UNAVAILABLE,
                            "The database that holds the API keys does not answer; try again.",
                            headers={"Retry-After": "5"},
                        ) from None
                self._looked_at = self._clock()
            assert self._made is not None  # noqa: S101 looked just now, or before
            return self._made


def _too_often(wait: float) -> Problem:
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many requests; slow down.",
        headers={"Retry-After": str(int(wait) + 1)},
    )


def _bearer(request: web.Request) -> str | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _actor(request: web.Request) -> str | None:
    """Who acts, by the client's own word: it names him in the audit and proves nothing."""
    named = request.headers.get("X-User-Id", "")
    return named if _ACTOR.fullmatch(named) else None


def _address_of(request: web.Request) -> str:
    """The peer; behind a proxy on this machine, whom that proxy heard last."""
    peer = request.remote or ""
    hops = request.headers.get("X-Forwarded-For", "").split(",")
    return hops[-1].strip()[:64] or peer if _is_loopback(peer) else peer


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _is_local(request: web.Request) -> bool:
    """Whether a process of this machine asks of its own accord.

    A proxy would speak for strangers. A web page can make a browser speak for it: its requests carry
    the page's Origin, or a Host of its own that was made to point here.
    """
    if not _is_loopback(request.remote or ""):
        return False
    if any(name in request.headers for name in _FORWARDED):
        return False
    host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    if host != "localhost" and not _is_loopback(host):
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("Host")
