"""The simulator as a process: it says where it listens, and on a signal what it saw."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from typing import Any

import orjson

from waemitter.simulator.options import Options
from waemitter.simulator.server import Simulator

try:
    import uvloop
except ImportError:
    new_event_loop = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop

_DRAIN_SECONDS = 5.0


def run(options: Options) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code.

    Prints one JSON line on start and one, with the ledger's report, at the end. Raises `OSError`
    when the address cannot be bound.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(options))


async def _serve(options: Options) -> int:
    loop, stop, stop_now = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def stopping() -> None:
        (stop_now if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping)
    async with Simulator(options) as simulator:
        # What exists now lives for good: no collection needs to look at it again.
        gc.freeze()
        _say("SIMULATOR_STARTED", **_introduction(simulator))
        await stop.wait()
        settled = await _drain(simulator, stop_now)
    _say("SIMULATOR_DRAINED", settled=settled, report=simulator.ledger.report())
    return 0


def _introduction(simulator: Simulator) -> dict[str, Any]:
    options = simulator.options
    return {
        "address": simulator.address,
        "base_url": simulator.base_url,
        "control": f"{simulator.address}/_simulator",
        "webhook_url": options.webhook_url,
        "phone_number_ids": options.phone_number_ids,
        "messages_per_second": options.messages_per_second,
    }


async def _drain(simulator: Simulator, stop_now: asyncio.Event) -> bool:
    """Wait for the webhooks that are due; False when they did not all arrive in time."""
    async with asyncio.TaskGroup() as waiting:
        settled = waiting.create_task(simulator.settle())
        impatience = waiting.create_task(stop_now.wait())
        await asyncio.wait(
            {settled, impatience}, timeout=_DRAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        done = settled.done()
        settled.cancel()
        impatience.cancel()
    return done


def _say(event: str, **details: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps({"event": event, **details}) + b"\n")
    sys.stdout.buffer.flush()
