"""The simulated platform itself: everything it knows and remembers, without the HTTP around it."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from time import monotonic, time
from typing import Any

from waemitter.simulator.courier import Courier
from waemitter.simulator.errors import CATALOGUE
from waemitter.simulator.faults import probabilities
from waemitter.simulator.ids import Ids
from waemitter.simulator.ledger import Ledger
from waemitter.simulator.lifecycle import Lifecycle, Message
from waemitter.simulator.limits import Gcra, Limit, SlidingWindow
from waemitter.simulator.media import MediaStore
from waemitter.simulator.options import Options
from waemitter.simulator.templates import Template, Templates
from waemitter.simulator.webhooks import Update

_LIMIT_OPTIONS = frozenset(
    {"messages_per_second", "throughput_window", "pair_seconds", "pair_burst"}
)
_HELD_DROPPED = CATALOGUE[132015].saying("Template got paused while this message was on hold.")


class World:
    """Composes the parts and hands them their options whenever those change."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.random = Random(options.seed)  # noqa: S311 - dice for faults and delays
        self.ids = Ids()
        self.ledger = Ledger()
        self.templates = Templates()
        self.media = MediaStore(self.ids)
        self.held: dict[tuple[str, str], list[Message]] = {}
        self.courier = Courier(
            options=options, tally=self.ledger.webhooks, random=self.random, heard=self._heard
        )
        self.lifecycle = Lifecycle(
            options=options, courier=self.courier, ids=self.ids, random=self.random
        )
        self._windows: dict[tuple[str, str], float] = {}
        self._last_number: str | None = None
        self._renew_limits()
        self._apply()

    def _renew_limits(self) -> None:
        options = self.options
        limit = options.messages_per_second
        self.throughput: Limit | None = None
        if limit and options.throughput_window == "sliding":
            self.throughput = SlidingWindow(limit=limit)
        elif limit:
            self.throughput = Gcra(interval=1 / limit, burst=limit)
        self.pairs: Limit | None = None
        if options.pair_seconds:
            self.pairs = Gcra(interval=options.pair_seconds, burst=options.pair_burst)

    def _apply(self) -> None:
        self.fault_shares = probabilities(self.options)
        self.courier.options = self.options
        self.lifecycle.options = self.options

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change options at run time; a limit begins afresh only when it changed itself.

        Raises `ValueError` as `Options.changed` does; then nothing was changed.
        """
        before, self.options = self.options, self.options.changed(changes)
        if any(getattr(before, n) != getattr(self.options, n) for n in _LIMIT_OPTIONS):
            self._renew_limits()
        self._apply()

    def reset(self) -> None:
        """Forget messages, limits, windows, templates, media and webhooks not yet under way."""
        self.ledger.clear()
        self.templates.clear()
        self.media.clear()
        self.held.clear()
        self.courier.clear()
        self._windows.clear()
        self._renew_limits()

    def knows(self, phone_number_id: str) -> bool:
        numbers = self.options.phone_number_ids
        if numbers:
            return phone_number_id in numbers
        return phone_number_id.isdigit()

    def seen(self, phone_number_id: str) -> None:
        """Remember a number that was used, as the one that customers write to."""
        self._last_number = phone_number_id

    def any_number(self) -> str | None:
        """Return the number meant when none is named: the only one used or known."""
        numbers = self.options.phone_number_ids
        return self._last_number or (numbers[0] if numbers else None)

    def in_window(self, phone_number_id: str, customer: str, now: float) -> bool:
        """Tell whether the customer service window is open."""
        heard = self._windows.get((phone_number_id, customer))
        return heard is not None and now - heard < self.options.window_seconds

    def customer_writes(
        self, phone_number_id: str, sender: str, content: dict[str, Any], name: str | None = None
    ) -> str:
        """Let a customer write now; returns the wamid."""
        now = monotonic()
        wall = time() - now
        return self.lifecycle.write(phone_number_id, sender, content, due=now, wall=wall, name=name)

    def _heard(self, update: Update, now: float) -> None:
        self.ledger.customer_wrote()
        self._windows[update.phone_number_id, update.sender] = now
        if self.options.count_inbound and self.throughput is not None:
            self.throughput.spend(update.phone_number_id, now)

    def declare(self, template: Template) -> None:
        """Declare a template; messages held for its assessment go out, or fail if it is bad."""
        self.templates.declare(template)
        if template.status == "held":
            return
        now = monotonic()
        for message in self.held.pop((template.name, template.language), ()):
            if template.status == "approved":
                self.lifecycle.deliver(message, now=now)
            else:
                self.ledger.failed_later(_HELD_DROPPED.code)
                self.lifecycle.fail(message, _HELD_DROPPED, now=now)
