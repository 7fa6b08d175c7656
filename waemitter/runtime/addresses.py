"""Which addresses the daemon may connect to, looked at in the moment of the connect: what a name led to before does not count.

Services of yours are often on loopback or in a private network, so those may be called where the settings name them. What no
service of anybody is (a cloud's metadata, which gives out credentials; link-local, multicast, the unspecified address) is
refused to every call. An address that somebody else told us of must be a public one.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200"),
    )
)
"""Of AWS and most others, AWS by IPv6, Google by IPv6, Alibaba."""

_public_only: Final[ContextVar[bool]] = ContextVar("_public_only", default=False)


class AddressRefused(OSError):
    """Nothing is connected to there; an OSError, so that it is a failed connection to whoever called."""


def refused(text: str, *, public_only: bool) -> bool:
    """Whether a call to this IP address is refused."""
    address = _meant(ipaddress.ip_address(text.partition("%")[0]))
    if public_only:
        return not address.is_global or address.is_multicast
    return (
        address in METADATA
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (isinstance(address, ipaddress.IPv4Address) and address.is_reserved)
    )


def _meant(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one (mapped, 6to4, NAT64) is that IPv4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@contextmanager
def only_public() -> Iterator[None]:
    """Around a call to an address that is not the settings'."""
    token = _public_only.set(True)
    try:
        yield
    finally:
        _public_only.reset(token)


def guarded_socket(address: tuple[Any, ...]) -> socket.socket:
    """Make the socket for one of getaddrinfo's answers, as aiohttp's connector asks for it. Raises AddressRefused."""
    family, kind, protocol, _, place = address
    if family in {socket.AF_INET, socket.AF_INET6} and refused(
        place[0], public_only=_public_only.get()
    ):
        raise AddressRefused(f"connections to {place[0]} are refused")
    made = socket.socket(family, kind, protocol)
    made.settimeout(0)  # asyncio waits, the socket does not
    return made
