import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

import structlog
from prometheus_client import CollectorRegistry

from waemitter.observe.events import Events
from waemitter.observe.logging import configure
from waemitter.observe.metrics import Metrics


class Attempt(TypedDict):
    """What every event about one attempt tells."""

    channel: str
    message_id: int
    correlation_id: str
    attempt: int


@dataclass(frozen=True)
class Observed:
    """Events that write into memory, and what they wrote and counted."""

    events: Events
    metrics: Metrics
    registry: CollectorRegistry
    raw: io.BytesIO
    stream: io.TextIOWrapper
    log: Any

    def text(self) -> str:
        return self.raw.getvalue().decode()

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.text().splitlines()]
        return [line for line in lines if event in {None, line["event"]}]

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"waemitter_{name}", labels)


@contextmanager
def observing(level: str = "debug", log_format: str = "json") -> Iterator[Observed]:
    root = logging.getLogger()
    before, handlers = root.level, root.handlers[:]
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw)
    registry = CollectorRegistry()
    try:
        log = configure(level=level, format=log_format, stream=stream)
        metrics = Metrics(registry)
        yield Observed(Events(metrics, log), metrics, registry, raw, stream, log)
    finally:
        root.setLevel(before)
        root.handlers[:] = handlers
        structlog.reset_defaults()
