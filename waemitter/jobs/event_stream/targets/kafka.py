"""Kafka: the CloudEvents binding in structured mode, keyed by subject, so that a partition keeps a subject's order."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from typing_extensions import override

from waemitter.jobs.event_stream.deliverer import Target
from waemitter.jobs.event_stream.delivery import DELIVERED, Delivery
from waemitter.jobs.event_stream.event import CONTENT_TYPE, Event, cloud_event


class Producer(Protocol):
    """What is used of aiokafka's; a test stands in here, since no broker could be had for one."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def send_and_wait(
        self, topic: str, value: bytes, key: bytes, *, headers: list[tuple[str, bytes]]
    ) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How the brokers know us; the words are Kafka's own (SASL_SSL, SCRAM-SHA-512 …)."""

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = None


class Kafka(Target):
    """Connects for its first event; afterwards the producer comes back by itself."""

    def __init__(self, producer: Callable[[], Producer], *, topic: str, timeout: float) -> None:
        """`timeout` in seconds, for all replicas that must have an event."""
        self._make = producer
        self._topic = topic
        self._timeout = timeout
        self._producer: Producer | None = None
        self._starting = asyncio.Lock()

    @override
    async def deliver(self, event: Event) -> Delivery:
        headers = [("content-type", CONTENT_TYPE.encode())]
        if event.traceparent:
            headers.append(("traceparent", event.traceparent.encode()))
        try:
            async with asyncio.timeout(self._timeout):
                producer = await self._started()
                await producer.send_and_wait(
                    self._topic, cloud_event(event), event.subject.encode(), headers=headers
                )
        except MessageSizeTooLargeError:
            return Delivery("hopeless", "the event is larger than the brokers take")
        except TimeoutError:
            return Delivery("failed", "the brokers did not answer in time")
        except (KafkaError, OSError) as error:
            return Delivery("failed", f"the brokers did not take it: {type(error).__name__}")
        return DELIVERED

    async def _started(self) -> Producer:
        async with self._starting:
            if self._producer is None:
                producer = self._make()
                try:
                    await producer.start()
                except (
                    BaseException
                ):  # the time-out's cancellation too: what was half opened is closed
                    await producer.stop()
                    raise
                self._producer = producer
        return self._producer

    @override
    async def aclose(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


def producer(servers: Sequence[str], login: Login, *, timeout: float) -> Producer:
    """A producer that never writes an event twice by itself, and waits for all replicas; `timeout` in seconds."""
    secured = login.protocol in {"SSL", "SASL_SSL"}
    made: Producer = AIOKafkaProducer(
        bootstrap_servers=list(servers),
        client_id="waemitter",
        acks="all",
        enable_idempotence=True,
        linger_ms=5,  # those that are under way together go in one request
        request_timeout_ms=round(timeout * 1000),
        security_protocol=login.protocol,
        ssl_context=ssl.create_default_context() if secured else None,
        sasl_mechanism=login.mechanism or "PLAIN",
        sasl_plain_username=login.username,
        sasl_plain_password=login.password,
    )
    return made
