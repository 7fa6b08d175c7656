"""Which addresses are connected to: tables, and connections made through names that lead elsewhere."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from waemitter.runtime.addresses import AddressRefused, guarded_socket, only_public, refused
from waemitter.whatsapp.client import GraphClient, open_session
from waemitter.whatsapp.inbound_media import DownloadFailed

NOBODYS = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "::",
    "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]  # fmt: skip
OURS = [
    "127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "fd12:3456::1", "100.64.0.1", "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
]  # fmt: skip
PUBLIC = ["157.240.1.1", "2a03:2880:f10c::1", "64:ff9b::9df0:101"]


@pytest.mark.parametrize("address", NOBODYS)
def test_what_is_nobody_s_service_is_never_called(address: str) -> None:
    assert refused(address, public_only=False)
    assert refused(address, public_only=True)


@pytest.mark.parametrize("address", OURS)
def test_our_own_services_are_called_when_the_settings_name_them(address: str) -> None:
    assert not refused(address, public_only=False)
    assert refused(address, public_only=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_always_be_called(address: str) -> None:
    assert not refused(address, public_only=False)
    assert not refused(address, public_only=True)


class Names(AbstractResolver):
    """A resolver that answers something else each time, as one of an attacker's would."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=self.answers.pop(0), port=port, family=family, proto=0, flags=0)]  # fmt: skip

    @override
    async def close(self) -> None:
        pass


@asynccontextmanager
async def service(
    names: Sequence[str],
) -> AsyncIterator[tuple[aiohttp.ClientSession, int, list[str]]]:
    """A service on loopback, a guarded session, and what the service was asked."""
    asked = list[str]()

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="inside")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    connector = aiohttp.TCPConnector(
        resolver=Names(*names), use_dns_cache=False, socket_factory=guarded_socket, force_close=True
    )
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session, runner.addresses[0][1], asked
    await runner.cleanup()


async def test_a_name_that_leads_inside_the_second_time_is_refused_then() -> None:
    async with service(["127.0.0.1", "169.254.169.254"]) as (session, port, asked):
        async with session.get(f"http://service.test:{port}/first") as response:
            assert await response.text() == "inside"
        with pytest.raises(aiohttp.ClientConnectorError) as raised:
            await session.get(f"http://service.test:{port}/second")

    assert isinstance(raised.value.os_error, AddressRefused)
    assert asked == ["/first"]


@pytest.mark.parametrize("url", ["http://service.test:{}/x", "http://127.0.0.1:{}/x"])
async def test_a_call_to_what_others_named_goes_to_public_addresses_alone(url: str) -> None:
    async with service(["127.0.0.1", "127.0.0.1"]) as (session, port, asked):
        with only_public(), pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url.format(port))
        assert asked == []
        async with session.get(url.format(port)):
            pass

    assert asked == ["/x"]


async def test_the_session_of_the_daemon_is_guarded_and_a_download_more_so() -> None:
    async with open_session(connections=2) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("http://169.254.169.254/latest/meta-data/")
        client = GraphClient(
            session,
            base_url="http://127.0.0.1:9/v24.0",
            phone_number_id="1",
            access_token="t",
            total_timeout=5,
            connect_timeout=5,
        )

        async def write(_: bytes) -> None:
            raise AssertionError

        for inside in ("https://127.0.0.1:1/x", "https://10.0.0.1/x", "https://[::1]:1/x"):
            with pytest.raises(DownloadFailed, match="broke off"):
                await client.download_media(inside, most=10, timeout=5, write=write)
