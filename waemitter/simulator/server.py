"""The simulator as a server: in a test, in a program of yours, or behind the command line."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from waemitter.simulator.control import Control
from waemitter.simulator.graph import Graph
from waemitter.simulator.ledger import Ledger
from waemitter.simulator.model import Model, ModelApi
from waemitter.simulator.options import Options
from waemitter.simulator.wire import Wire
from waemitter.simulator.world import World

_LARGEST_BODY = 101 << 20


class Simulator:
    """A Cloud API that lives as long as its context.

        async with Simulator(Options(webhook_url="http://127.0.0.1:8080/webhooks")) as meta:
            ... POST to meta.base_url + "/111000111/messages" ...
            await meta.settle()
            assert meta.ledger.report()["duplicates"] == 0

    Raises `OSError` on entering when the port is taken.
    """

    def __init__(self, options: Options | None = None) -> None:
        self._world = World(options or Options())
        self.model = Model()
        self._closing = asyncio.Event()
        self._running = AsyncExitStack()
        self._port = 0

    @property
    def options(self) -> Options:
        """What is in force now; `configure` changes it."""
        return self._world.options

    @property
    def ledger(self) -> Ledger:
        return self._world.ledger

    @property
    def port(self) -> int:
        """The port listened on, also when any was asked for."""
        return self._port

    @property
    def address(self) -> str:
        """`http://host:port`, as it is to be dialled."""
        host = self.options.host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def base_url(self) -> str:
        """What to use in place of `https://graph.facebook.com/v24.0`."""
        return f"{self.address}/{self.options.api_version}"

    @property
    def model_url(self) -> str:
        """What to use in place of `https://api.openai.com/v1`."""
        return f"{self.address}/v1"

    def configure(self, **changes: Any) -> None:
        """Change options at run time; raises `ValueError`, having changed nothing, for bad ones."""
        self._world.configure(changes)

    def reset(self) -> None:
        """Forget all messages, limits, templates, media and the model's script; options stay."""
        self._world.reset()
        self.model.clear()

    def customer_writes(
        self,
        sender: str,
        text: str,
        *,
        phone_number_id: str | None = None,
        name: str | None = None,
    ) -> str:
        """Let a customer (digits, or a business-scoped id) write; returns the wamid.

        Raises `ValueError` when no number was named, configured or used so far.
        """
        number = phone_number_id or self._world.any_number()
        if number is None:
            raise ValueError("phone_number_id: required, since none was used yet")
        content = {"type": "text", "text": {"body": text}}
        return self._world.customer_writes(number, sender.removeprefix("+"), content, name)

    async def settle(self) -> None:
        """Return when every webhook scheduled so far was acknowledged or given up."""
        await self._world.courier.settle()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as starting:
            runner = web.AppRunner(
                self._application(),
                access_log=None,
                handler_cancellation=True,
                shutdown_timeout=1.0,
            )
            await runner.setup()
            starting.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, self.options.host, self.options.port, backlog=1024).start()
            self._port = runner.addresses[0][1]
            tasks = await starting.enter_async_context(asyncio.TaskGroup())
            courier = tasks.create_task(self._world.courier.run(), name="simulator-courier")
            starting.callback(courier.cancel)
            starting.callback(self._closing.set)
            self._running = starting.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Without the error: the task group would wrap what has nothing to do with it.
        await self._running.aclose()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=_LARGEST_BODY)
        Control(self._world).add_routes(application.router)
        ModelApi(self._world, self.model, self._closing).add_routes(application.router)
        Graph(self._world, Wire(self._world, self._closing)).add_routes(application.router)
        return application
