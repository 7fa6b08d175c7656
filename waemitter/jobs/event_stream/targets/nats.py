"""NATS: published to a JetStream, which acknowledges and knows duplicates, or to a plain subject, which does neither."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.errors import Error, MaxPayloadError
from nats.js.errors import NoStreamResponseError
from typing_extensions import override

from waemitter.jobs.event_stream.deliverer import Target
from waemitter.jobs.event_stream.delivery import DELIVERED, Delivery
from waemitter.jobs.event_stream.event import CONTENT_TYPE, Event, cloud_event


class Nats(Target):
    """Connects for its first event, and again for the next one when the connection is gone."""

    def __init__(
        self,
        servers: Sequence[str],
        *,
        prefix: str,
        jetstream: bool,
        timeout: float,
        credentials: Path | None = None,
    ) -> None:
        """An event goes to the subject `<prefix>.<type>`; `timeout` in seconds, connecting too; `credentials`: a .creds file."""
        self._servers = list(servers)
        self._prefix = prefix
        self._jetstream = jetstream
        self._timeout = timeout
        self._credentials = None if credentials is None else str(credentials)
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    @override
    async def deliver(self, event: Event) -> Delivery:
        subject, body = f"{self._prefix}.{event.type}", cloud_event(event)
        headers = {"Content-Type": CONTENT_TYPE, "Nats-Msg-Id": event.event_id}
        if event.traceparent:
            headers["traceparent"] = event.traceparent
        try:
            async with asyncio.timeout(self._timeout):
                client = await self._connected()
                if self._jetstream:
                    await client.jetstream(timeout=self._timeout).publish(
                        subject, body, headers=headers
                    )
                else:
                    await client.publish(subject, body, headers=headers)
                    await client.flush()
        except MaxPayloadError:
            return Delivery("hopeless", "the event is larger than the server takes")
        except NoStreamResponseError:
            return Delivery("failed", f"no stream takes the subject {subject}: create one")
        except TimeoutError:  # those of nats too
            return Delivery("failed", "the server did not answer in time")
        except (Error, OSError) as error:
            return Delivery("failed", f"the server did not take it: {type(error).__name__}")
        return DELIVERED

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None or not self._client.is_connected:
                await self.aclose()
                self._client = await nats.connect(
                    servers=self._servers,
                    name="waemitter",
                    # What is published while a client of its own waits to reconnect is kept in memory, and may be lost.
                    allow_reconnect=False,
                    error_cb=_told_with_the_delivery,
                    user_credentials=self._credentials,
                )
        return self._client

    @override
    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()


async def _told_with_the_delivery(_: Exception) -> None:
    """Without it the library writes a log of its own."""
