"""A real browser without a screen: Debian's chromium, spoken to in its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/. A driver such as playwright would bring a browser and a Node of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import eventually

FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    *("--disable-sync", "--mute-audio", "--hide-scrollbars", "--remote-debugging-port=0"),
)
PATIENCE = 30.0  # seconds
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27}


class Tab:
    """One page. `complaints` are what the browser's console would show: errors, exceptions, policies that were violated."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket = socket
        self._session = session
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """To what the browser says, until it is closed."""
        async for message in self._socket:
            told = json.loads(message.data)
            if (answer := self._answers.pop(told.get("id"), None)) is not None:
                answer.set_result(told)
            else:
                self._heard(told.get("method"), told.get("params", {}))

    def _heard(self, event: str | None, told: Mapping[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded.set()
        elif event == "Log.entryAdded":
            entry = told["entry"]
            self.complaints.append(f"{entry['source']} {entry['level']}: {entry['text']}")
        elif event == "Runtime.consoleAPICalled" and told["type"] in {"error", "warning", "assert"}:
            self.complaints.append(f"console: {told['args']}")
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {told['exceptionDetails']['text']}")

    async def send(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json(
            {"id": number, "method": method, "params": parameters, "sessionId": self._session}
        )
        async with asyncio.timeout(PATIENCE):
            told = await answer
        assert "error" not in told, told
        return told["result"]

    async def go(self, url: str) -> None:
        self._loaded.clear()
        await self.send("Page.navigate", url=url)
        await self.loaded()

    async def loaded(self) -> None:
        """Until the page that is on its way is there, with its scripts."""
        async with asyncio.timeout(PATIENCE):
            await self._loaded.wait()
        self._loaded.clear()

    async def ask(self, script: str) -> Any:
        """The value of an expression, or what a promise comes to."""
        told = await self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def press(self, key: str) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=KEYS[key],
                **(text if kind == "keyDown" else {}),
            )

    async def type(self, text: str) -> None:
        await self.send("Input.insertText", text=text)

    async def look(self, *, width: int, height: int, scheme: str, scale: float = 1.0) -> None:
        """As on a screen of that size, in `light` or `dark`; narrow ones are phones'."""
        phone = width < 600
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=phone,
        )
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def picture(self) -> bytes:
        """What is seen, as PNG."""
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        return b64decode(shot["data"])


@asynccontextmanager
async def chromium(directory: Path) -> AsyncIterator[Tab]:
    """A browser with one tab; `directory` is for its profile."""
    profile = directory / "profile"
    process = await asyncio.create_subprocess_exec(
        *("chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(directory)},
        start_new_session=True,
    )
    try:
        port = profile / "DevToolsActivePort"
        await eventually(lambda: port.exists() and "\n" in port.read_text(), within=PATIENCE)
        number, path = port.read_text().split("\n")[:2]
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"ws://127.0.0.1:{number}{path}", max_msg_size=1 << 26) as socket,
        ):
            yield_to = await _opened(socket)
            listening = asyncio.ensure_future(yield_to.listen())
            try:
                for domain in ("Page", "Runtime", "Log"):
                    await yield_to.send(f"{domain}.enable")
                yield yield_to
            finally:
                listening.cancel()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _opened(socket: aiohttp.ClientWebSocketResponse) -> Tab:
    """The browser's first tab."""
    await socket.send_json({"id": 1, "method": "Target.getTargets"})
    targets = (await _answer(socket, 1))["targetInfos"]
    (target,) = [each["targetId"] for each in targets if each["type"] == "page"]
    attach = {"targetId": target, "flatten": True}
    await socket.send_json({"id": 2, "method": "Target.attachToTarget", "params": attach})
    return Tab(socket, (await _answer(socket, 2))["sessionId"])


async def _answer(socket: aiohttp.ClientWebSocketResponse, number: int) -> Any:
    while True:
        told = await socket.receive_json(timeout=PATIENCE)
        if told.get("id") == number:
            return told["result"]
