"""The demo's conversation: a customer asks, an agent answers, and the simulator plays both the customer and the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from waemitter.errors import WaemitterError
from waemitter.ops.stage import Stage
from waemitter.ops.store import OpsStore

LOOK_EVERY: Final = 0.1  # seconds
PATIENCE: Final = 30.0  # seconds for one answer
MODEL_LATENCY: Final = 0.8  # seconds
CUSTOMER: Final = "14155550100"
NAME: Final = "Ada"
AGENT: Final = "assistant"

CONFIG: Final = """
[inbox]
buffer_duration = "1s"

[[routes]]
name = "fallback"
fallback = true
handler = "agent"
agent = "assistant"

[agents.assistant]
model = "simulated"
system_prompt = "You answer for a shop that sells chairs, in a few short sentences."
fallback_text = "I cannot answer right now. Somebody will write to you soon."
"""


class Said(NamedTuple):
    """What a customer writes, in one go, and what the model says to it."""

    words: tuple[str, ...]
    answer: str


SCRIPT: Final = (
    Said(("Hello!", "Where is my order?"), "Hello Ada! What is your order's number?"),
    Said(
        ("17",),
        "Order 17 left our house this morning. It will be with you *tomorrow* between nine and twelve.",
    ),
)


class NoAnswer(WaemitterError):
    """Nobody answered the customer."""


def agents_installed() -> bool:
    return all(find_spec(package) is not None for package in ("openai", "markdown_it"))


def environment(folder: Path, on: Stage) -> Mapping[str, str]:
    """Write waemitter.toml into the folder; the settings that lead a daemon to it and to the simulator's model.

    None where the packages for agents are not installed.
    """
    if not agents_installed():
        return {}
    config = folder / "waemitter.toml"
    config.write_text(CONFIG)
    parts = urlsplit(on.graph_url)
    return {
        "WAEMITTER_CONFIG": str(config),
        "OPENAI_BASE_URL": f"{parts.scheme}://{parts.netloc}/v1",
        "OPENAI_API_KEY": "simulated",
    }


async def talk(on: Stage, store: OpsStore, told: Callable[[str], None]) -> None:
    """Play the script; `told` hears each line as it is said. Raises NoAnswer."""
    await on.control("PATCH", "options", {"reply_probability": 0.0})
    for exchange in SCRIPT:
        await on.control("POST", "model", [{"text": exchange.answer}])
        for words in exchange.words:
            wish = {"from": CUSTOMER, "name": NAME, "text": words}
            await on.control("POST", "customers/messages", wish)
            told(f"  {NAME:>9}: {words}")
        before = len(await store.answers_to(CUSTOMER))
        told(f"  {AGENT:>9}: {await _answer(store, before)}")


async def _answer(store: OpsStore, before: int) -> str:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        answers = await store.answers_to(CUSTOMER)
        if len(answers) > before:
            return answers[before]
        await asyncio.sleep(LOOK_EVERY)
    raise NoAnswer(f"{NAME} was not answered within {PATIENCE:.0f} s")
