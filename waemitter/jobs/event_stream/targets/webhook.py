"""A webhook: one POST for each event, signed by Standard Webhooks."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
from typing_extensions import override

from waemitter.jobs.event_stream.deliverer import Target
from waemitter.jobs.event_stream.delivery import Delivery, judged
from waemitter.jobs.event_stream.event import CONTENT_TYPE, Event, cloud_event
from waemitter.turns.handlers.webhook_signature import sign


class Webhook(Target):
    """Follows no redirect, and keeps no cookie: the address in the settings is the only one that is called."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        url: str,
        key: bytes | None,
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        """`key`: signs, if there is one; `timeout` in seconds, for the whole call; `clock`: seconds since 1970."""
        self._session = session
        self._url = url
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._clock = clock

    @override
    async def deliver(self, event: Event) -> Delivery:
        body = cloud_event(event)
        try:
            async with self._session.post(
                self._url,
                data=body,
                headers=self._headers(event, body),
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                return judged(response.status, response.headers.get("Retry-After"))
        except TimeoutError:
            return Delivery("failed", "the receiver did not answer in time")
        except aiohttp.ClientError as error:
            return Delivery("failed", f"the receiver was not reached: {type(error).__name__}")

    @override
    async def aclose(self) -> None:
        """The session is shared, and not its own."""

    def _headers(self, event: Event, body: bytes) -> dict[str, str]:
        timestamp = int(self._clock())
        headers = {
            "Content-Type": CONTENT_TYPE,
            "webhook-id": event.event_id,  # the same for every attempt, so that the receiver can tell a retry
            "webhook-timestamp": str(timestamp),
        }
        if self._key is not None:
            headers["webhook-signature"] = sign(
                self._key, webhook_id=event.event_id, timestamp=timestamp, body=body
            )
        if event.traceparent:
            headers["traceparent"] = event.traceparent
        return headers
