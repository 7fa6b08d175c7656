"""Who is told of what happens: the tables `[events.<name>]`, as written and as completed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from waemitter.errors import UsageError
from waemitter.jobs.event_stream.event import expand
from waemitter.settings.durations import Duration, split_list
from waemitter.settings.metadata import Group, Kind, setting
from waemitter.settings.tracing import TracingSettings

_DAY = 86_400.0


def _check_types(patterns: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return expand(patterns)
    except UsageError as error:
        raise ValueError(f"holds what is no event: {error}") from None


def _check_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
        raise ValueError("must be an address such as https://host/path")
    if parts.username or parts.password:
        raise ValueError("must hold no user and no password: sign with secret_env")
    return value


def _check_servers(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if (
            urlsplit(value).scheme not in {"nats", "tls", "ws", "wss"}
            or not urlsplit(value).hostname
        ):
            raise ValueError("must be addresses such as nats://host:4222")
    return values


def _check_brokers(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        host, _, port = value.rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            raise ValueError("must be host:port, several separated by commas")
    return values


Types = Annotated[
    tuple[str, ...],
    BeforeValidator(split_list),
    AfterValidator(_check_types),
    Kind("list of types"),
]
Servers = Annotated[
    tuple[str, ...], BeforeValidator(split_list), AfterValidator(_check_servers), Kind("URLs")
]
Brokers = Annotated[
    tuple[str, ...],
    BeforeValidator(split_list),
    AfterValidator(_check_brokers),
    Kind("list of host:port"),
]
WebhookUrl = Annotated[str, AfterValidator(_check_url), Kind("URL")]
Protocol = Annotated[
    Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(str.upper)
]
Mechanism = Annotated[
    Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(str.upper)
]


class EventTable(Group):
    """An `[events.<name>]` table as written."""

    types: Types = setting(
        (), "What is told: `message.sent`, `message.*`, `*` for all; required.", min_length=1
    )
    webhook: WebhookUrl | None = setting(
        None, "Where each event is posted to; or one of the next two."
    )
    nats: Servers = setting((), "NATS servers; needs `waemitter[nats]`.")
    kafka: Brokers = setting((), "Kafka brokers; needs `waemitter[kafka]`.")
    secret_env: str | None = setting(None, "`webhook`: the variable that holds the signing secret.")
    secret_file: Path | None = setting(None, "`webhook`: the file that holds it.")
    subject: str = setting(
        "waemitter.events", "`nats`: what subjects begin with; the type follows.", min_length=1
    )
    jetstream: bool = setting(
        True,  # noqa: FBT003 - the first argument is the default, whatever its type
        "`nats`: wait until a stream has the event; `false` publishes to who listens now.",
    )
    credentials_file: Path | None = setting(None, "`nats`: a `.creds` file.")
    topic: str = setting("waemitter.events", "`kafka`: the topic.", min_length=1, max_length=249)
    protocol: Protocol = setting("PLAINTEXT", "`kafka`: the security protocol.")
    mechanism: Mechanism | None = setting(None, "`kafka`: how SASL logs in; PLAIN by default.")
    username: str | None = setting(None, "`kafka`: as whom.")
    password_env: str | None = setting(None, "`kafka`: the variable that holds the password.")
    password_file: Path | None = setting(None, "`kafka`: the file that holds it.")
    timeout: Duration = setting(15.0, "How long one delivery may take.", gt=0, le=300)
    concurrency: int = setting(
        16, "Deliveries at once; those of one subject are made one by one.", ge=1, le=1000
    )
    give_up_after: Duration = setting(
        _DAY, "An event that the receiver alone refuses is not tried again after this.", gt=0
    )
    disable_after: Duration = setting(
        3 * _DAY, "A subscription whose every delivery failed for this long is disabled.", gt=0
    )


class EventSettings(Group):
    """One subscription with everything resolved."""

    name: str
    table: EventTable
    secret: SecretStr | None = None
    password: SecretStr | None = None
    credentials: Path | None = None
    tracing: TracingSettings | None = None

    @property
    def kind(self) -> Literal["webhook", "nats", "kafka", "tracing"]:
        if self.tracing is not None:
            return "tracing"
        if self.table.webhook is not None:
            return "webhook"
        return "nats" if self.table.nats else "kafka"

    @property
    def target(self) -> str:
        """Where it goes, in words without a secret."""
        table = self.table
        if self.tracing is not None:
            return self.tracing.endpoint
        if table.webhook is not None:
            return _place(table.webhook)
        if table.nats:
            return f"{', '.join(map(_place, table.nats))} {table.subject}"
        return f"{', '.join(table.kafka)} {table.topic}"


def _place(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"
