"""The way out: a sender for each channel, and who looks after them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from waemitter.daemon.shared import OUTBOX, Shared, jitter, secret
from waemitter.outbox.carriers.carrier import Carrier
from waemitter.outbox.carriers.whatsapp import WhatsAppCarrier
from waemitter.outbox.channels.probe import Client as Probed
from waemitter.outbox.channels.probe import Probe
from waemitter.outbox.channels.store import ChannelStore
from waemitter.outbox.channels.tokens import Tokens
from waemitter.outbox.letters.store import LetterStore
from waemitter.outbox.permissions.store import PermissionStore
from waemitter.outbox.permissions.window import WindowPolicy
from waemitter.outbox.reconciler import Reconciler
from waemitter.outbox.sender import Sender
from waemitter.outbox.store import OutboxStore
from waemitter.runtime.gears import Gears
from waemitter.runtime.supervise import Service, Stop
from waemitter.settings import ChannelSettings, ChatwootChannel
from waemitter.whatsapp.client import GraphClient

if TYPE_CHECKING:
    from waemitter.outbox.carriers.chatwoot.carrier import ChatwootCarrier


class Senders:
    """`drained` is set when the last of them has settled what it had in hand."""

    def __init__(self, shared: Shared) -> None:
        self.drained = asyncio.Event()
        self._shared = shared
        self._outbox = OutboxStore(shared.pool, at_hand=shared.at_hand)
        self._channels = ChannelStore(shared.pool)
        self._permissions = PermissionStore(shared.pool)
        self._gears = Gears(
            shared.doorbell, channel=OUTBOX, observer=shared.events, clock=time.monotonic
        )
        self._clients: Mapping[str, GraphClient] = {
            channel.name: graph_client(shared, channel) for channel in shared.settings.channels
        }
        self._desks = _desks(shared, self._clients)
        self._carriers: Mapping[str, Carrier] = {
            **{name: WhatsAppCarrier(client) for name, client in self._clients.items()},
            **self._desks,
        }
        self._at_work = len(self._carriers)

    async def prepare(self) -> None:
        """Make the channels' rows agree with the settings."""
        for channel in self._shared.settings.channels:
            await self._outbox.ensure_channel(
                channel.name,
                phone_number_id=channel.phone_number_id,
                messages_per_second=channel.messages_per_second,
                pair_seconds=channel.pair_seconds,
                pair_burst=channel.pair_burst,
            )
            if await self._channels.introduce(channel.name, token_hash=channel.token_hash):
                self._shared.events.channel_resumed(channel=channel.name)
            await self._permissions.set_window(channel.name, WindowPolicy(channel.window_policy))
        for desk in self._shared.settings.desks:
            await self._outbox.ensure_channel(
                desk.name,
                kind="chatwoot",
                phone_number_id=None,
                messages_per_second=desk.messages_per_second,
                pair_seconds=0,
                pair_burst=None,
            )
            token_hash = self._shared.settings.chatwoot.token_hash
            if await self._channels.introduce(desk.name, token_hash=token_hash):
                self._shared.events.channel_resumed(channel=desk.name)

    def services(self) -> dict[str, Service]:
        shared = self._shared
        probed: dict[str, Probed] = {**self._clients, **self._desks}
        probe = Probe(self._channels, probed, events=shared.events, jitter=jitter)
        tokens = Tokens(
            self._channels,
            {
                channel.name: self._clients[channel.name]
                for channel in shared.settings.channels
                if channel.access_token is not None and shared.settings.outbox.send_enabled
            },
            events=shared.events,
            wall=time.time,
            jitter=jitter,
        )
        reconciler = Reconciler(
            self._outbox,
            LetterStore(shared.pool),
            events=shared.events,
            sweep_interval=shared.settings.outbox.sweep_interval,
            clock=time.monotonic,
            jitter=jitter,
        )
        channels: list[ChannelSettings | ChatwootChannel] = [
            *shared.settings.channels,
            *shared.settings.desks,
        ]
        return {
            "gears": self._gears.run,
            **{
                f"sender {channel.name}": self._until_drained(self._sender(channel).run)
                for channel in channels
            },
            "probe": probe.run,
            "tokens": tokens.run,
            "reconciler": reconciler.run,
        }

    def _until_drained(self, sender: Service) -> Service:
        async def run(stop: Stop) -> None:
            await sender(stop)
            self._at_work -= 1
            if self._at_work == 0:
                self.drained.set()

        return run

    def _sender(self, channel: ChannelSettings | ChatwootChannel) -> Sender:
        shared = self._shared
        return Sender(
            channel.name,
            store=self._outbox,
            channels=self._channels,
            permissions=self._permissions,
            carrier=self._carriers[channel.name],
            gears=self._gears,
            bell=shared.doorbell.bell(OUTBOX),
            events=shared.events,
            sending=shared.settings.outbox.sending(channel),
            clock=time.monotonic,
            jitter=jitter,
        )


def _desks(shared: Shared, numbers: Mapping[str, GraphClient]) -> Mapping[str, ChatwootCarrier]:
    if not shared.settings.desks:
        return {}
    from waemitter.daemon.chatwoot import chatwoot_carriers  # noqa: PLC0415 for those who have a Chatwoot

    return chatwoot_carriers(shared, numbers)


def graph_client(shared: Shared, channel: ChannelSettings) -> GraphClient:
    outbox = shared.settings.outbox
    return GraphClient(
        shared.session,
        base_url=shared.settings.whatsapp.api_url,
        phone_number_id=channel.phone_number_id or "",
        access_token=secret(channel.access_token) or "",
        total_timeout=outbox.request_timeout,
        connect_timeout=outbox.connect_timeout,
    )
