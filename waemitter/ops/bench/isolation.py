"""What trouble on one number does to another that the same daemon serves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from waemitter.ops.bench.cloud import Cloud
from waemitter.ops.bench.sink import FAILING_NUMBER
from waemitter.ops.bench.site import Site, patience

TROUBLED: Final = "troubled"
TROUBLES: Final = ("limited", "paused", "failing")
BACKLOG: Final = 5_000  # messages of the troubled channel
LIMIT: Final = 80.0  # its messages a second
NUMBER: Final = "222000222"


@dataclass(frozen=True, slots=True)
class Isolated:
    """Messages a second of the healthy channel, by what troubled the other one."""

    rates: Mapping[str, float]

    def share(self, trouble: str) -> float:
        """What was left of the rate without trouble."""
        return self.rates[trouble] / self.rates["none"]


async def isolation(
    site: Site, cloud: Cloud, messages: int, troubles: Sequence[str] = TROUBLES
) -> Isolated:
    """Drain one channel, unlimited, beside another that is empty, limited, paused, or refused by Meta."""
    return Isolated(
        {trouble: await _drain(site, cloud, messages, trouble) for trouble in ("none", *troubles)}
    )


async def _drain(site: Site, cloud: Cloud, messages: int, trouble: str) -> float:
    number = FAILING_NUMBER if trouble == "failing" else NUMBER
    config = site.directory / "two-channels.toml"
    config.write_text(
        '[[channels]]\nname = "default"\nphone_number_id = "111000111"\nmessages_per_second = 0\n'
        f'[[channels]]\nname = "{TROUBLED}"\nphone_number_id = "{number}"\nmessages_per_second = {LIMIT}\n'
    )
    await site.store.clear()
    await cloud.reset()
    settings = {"WAEMITTER_CONFIG": str(config)}
    async with site.daemon(cloud.graph_url, messages_per_second=None, settings=settings):
        if trouble != "none":
            await site.store.set_paused(TROUBLED, paused=trouble == "paused")
            await site.store.enqueue(messages + 1, messages + BACKLOG, channel=TROUBLED)
        await site.store.enqueue(1, messages)
        committed = time.time()
        await site.channel_settled("default", within=patience(messages))
        outcome = await site.store.outcome("default")
    return messages / (outcome.last_sent_at - committed)
