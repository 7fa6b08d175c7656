"""Settings of what goes out: the database, Meta's credentials, the outbox and its channels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr

from waemitter.outbox.permissions.window import WindowPolicy
from waemitter.outbox.retry import Patience
from waemitter.outbox.sender import Sending
from waemitter.settings.durations import Duration, Durations
from waemitter.settings.metadata import Group, setting
from waemitter.settings.values import (
    GRAPH_URL,
    Address,
    GraphUrl,
    PhoneNumberId,
    Secret,
    Secrets,
    Token,
    fingerprint,
    lowered,
)

ChannelKind = Annotated[Literal["whatsapp", "chatwoot"], BeforeValidator(lowered)]
EndedTemplates = Annotated[Literal["fail", "hold"], BeforeValidator(lowered)]
UndeliveredPolicy = Annotated[Literal["fail", "defer"], BeforeValidator(lowered)]
WindowWord = Annotated[Literal["send", "fail", "template"], BeforeValidator(lowered)]
UnconfirmedPolicy = Annotated[Literal["retry", "hold"], BeforeValidator(lowered)]


class DatabaseSettings(Group):
    url: Address | None = setting(
        None,
        "The Postgres that holds the queue. Without it libpq's own variables say where it is "
        "(`PGHOST`, `PGDATABASE`, `PGSERVICE` …).",
        environment="DATABASE_URL",
        secret=True,
    )
    listen_url: Address | None = setting(
        None,
        "A direct address for LISTEN, for when the other leads to a transaction pooler, "
        "which carries no notifications.",
        secret=True,
    )
    pool_size: int = setting(
        8, "Most connections to Postgres, beside the one that listens.", ge=1, le=1000
    )
    from_libpq: bool = Field(
        default=False, description="Whether libpq's variables say where it is; found, never set."
    )

    @property
    def configured(self) -> bool:
        """Whether anything says where the database is: an address, or libpq's variables."""
        return self.url is not None or self.from_libpq


class WhatsAppSettings(Group):
    access_token: Token | None = setting(
        None,
        "The system user's token for the Cloud API.",
        environment="WHATSAPP_ACCESS_TOKEN",
        secret=True,
    )
    phone_number_id: PhoneNumberId | None = setting(
        None,
        "The id of the number that sends; it is not the phone number.",
        environment="WHATSAPP_PHONE_NUMBER_ID",
    )
    app_secrets: Secrets = setting(
        (),
        "The secret of Meta's app, which signs webhooks; several, comma-separated, while one "
        "replaces another.",
        environment="WHATSAPP_APP_SECRET",
        secret=True,
    )
    verify_token: Secret | None = setting(
        None,
        "The word that Meta repeats when a webhook's address is registered.",
        environment="WHATSAPP_VERIFY_TOKEN",
        secret=True,
    )
    api_url: GraphUrl = setting(
        GRAPH_URL,
        "The Graph API with its version. A full `…/v18.0/PHONE_NUMBER_ID/messages` is understood, "
        "and gives the phone number id where none is set.",
        environment="WHATSAPP_API_URL",
    )


class OutboxSettings(Group):
    send_enabled: bool = setting(
        True,  # noqa: FBT003 - the first argument is the default, whatever its type
        "`false` is a dry run: rows are marked sent with `dry_run` true, and nothing leaves.",
        old={"ENABLE_WA_SEND": ""},
    )
    max_attempts: int = setting(
        5,
        "Retries after the first try; a message or a campaign may say otherwise.",
        old={"WORKER_MAX_ATTEMPTS": ""},
        ge=0,
        le=100,
    )
    retry_delays: Durations = setting(
        (60.0, 120.0, 240.0, 480.0, 960.0), "The wait before each retry, give or take 10 %."
    )
    batch_size: int = setting(
        500, "Most rows in one claim.", old={"WORKER_BATCH_SIZE": ""}, ge=1, le=10_000
    )
    concurrency: int = setting(1000, "Most requests in flight.", ge=1, le=10_000)
    lease: Duration = setting(
        15.0, "How long a claimed row belongs to its daemon; longer than any request.", gt=0
    )
    request_timeout: Duration = setting(10.0, "How long Meta may take to answer a send.", gt=0)
    connect_timeout: Duration = setting(
        5.0, "How long a connection to Meta may take to open.", gt=0
    )
    unconfirmed_grace: Duration = setting(
        60.0, "How long a send of unknown outcome waits for its status webhook.", gt=0
    )
    unconfirmed_policy: UnconfirmedPolicy = setting(
        "retry", "When no status webhook came: `retry` sends again, `hold` leaves it to a person."
    )
    undelivered_policy: UndeliveredPolicy = setting(
        "fail",
        "When Meta chose not to deliver a message (131049, the limit of marketing messages per "
        "user): `fail`, or `defer` to send it once more, a day later.",
    )
    ended_templates: EndedTemplates = setting(
        "fail",
        "Queued messages of a template that Meta disabled, rejected or deleted: `fail`, or `hold` until it is back.",
    )
    sweep_interval: Duration = setting(
        60.0, "How often rows are looked for that no notification told of.", gt=0
    )

    @property
    def patience(self) -> Patience:
        return Patience(
            max_attempts=self.max_attempts,
            delays=self.retry_delays,
            grace=self.unconfirmed_grace,
            postpone=self.undelivered_policy == "defer",
        )

    def sending(self, channel: ChannelSettings | ChatwootChannel) -> Sending:
        """How that channel sends."""
        return Sending(
            enabled=self.send_enabled,
            batch_size=self.batch_size,
            concurrency=self.concurrency,
            lease=self.lease,
            request_timeout=self.request_timeout,
            unconfirmed_policy=channel.unconfirmed_policy,
            window_policy=WindowPolicy(channel.window_policy),
            sweep_interval=self.sweep_interval,
            patience=self.patience,
        )


class ChannelLimits(Group):
    messages_per_second: float | None = setting(
        None,
        "A number's throughput; 0 is no limit, for benches. What is set here is written to the "
        "channel's row at start; else the row stands (80 at first), as Meta's upgrades left it.",
        ge=0,
        allow_inf_nan=False,
    )
    pair_seconds: Duration | None = setting(
        None,
        "The time between two messages to one recipient, once the burst is spent; 0 is no limit. "
        "Written to the channel's row as the throughput is (6 seconds at first).",
    )
    pair_burst: int | None = setting(
        None,
        "Messages that one recipient may get at once. Written to the channel's row as the "
        "throughput is (45 at first, which is Meta's most).",
        ge=1,
        le=45,
    )
    window_policy: WindowWord = setting(
        "send",
        "Free-form messages to who has not written within 24 hours, as far as we know: `send` leaves it to "
        "Meta, `fail` fails them with 131047, `template` sends the payload's `fallback_template` instead.",
    )


class ChannelTable(Group):
    """A `[[channels]]` table as written; what it leaves out, the settings of all channels give."""

    name: str = setting(
        "default", "What rows of the outbox call the channel.", min_length=1, max_length=63
    )
    kind: ChannelKind = setting(
        "whatsapp",
        "`whatsapp` is a number; `chatwoot` an inbox, of which only `inbox_id` and the limit are read.",
    )
    inbox_id: int | None = setting(None, "As `chatwoot.inbox_id`.", ge=1)
    phone_number_id: PhoneNumberId | None = setting(None, "As `whatsapp.phone_number_id`.")
    access_token_env: str | None = setting(None, "The variable that holds the token.")
    access_token_file: Path | None = setting(None, "The file that holds the token.")
    app_secret_env: str | None = setting(None, "The variable that holds the app's secrets.")
    app_secret_file: Path | None = setting(None, "The file that holds the app's secrets.")
    verify_token_env: str | None = setting(None, "The variable that holds the verify token.")
    verify_token_file: Path | None = setting(None, "The file that holds the verify token.")
    messages_per_second: float | None = setting(
        None, "As `channel.messages_per_second`.", ge=0, allow_inf_nan=False
    )
    pair_seconds: Duration | None = setting(None, "As `channel.pair_seconds`.")
    pair_burst: int | None = setting(None, "As `channel.pair_burst`.", ge=1, le=45)
    unconfirmed_policy: UnconfirmedPolicy | None = setting(None, "As `outbox.unconfirmed_policy`.")
    window_policy: WindowWord | None = setting(None, "As `channel.window_policy`.")


class ChannelSettings(Group):
    """One number to send from, with everything resolved.

    `access_token_env` is the variable that holds the token, or should. A limit is None when that of
    the channel's row in the database stands.
    """

    name: str
    phone_number_id: PhoneNumberId | None
    access_token_env: str
    access_token: Token | None
    app_secrets: tuple[SecretStr, ...]
    verify_token: Secret | None
    messages_per_second: float | None
    pair_seconds: float | None
    pair_burst: int | None
    unconfirmed_policy: UnconfirmedPolicy
    window_policy: WindowWord

    @property
    def token_hash(self) -> str | None:
        """What tells a new token from the old one, and which channels share one."""
        return None if self.access_token is None else fingerprint(self.access_token)


CHATWOOT_RATE: Final = 20.0
"""Messages a second: Chatwoot's own limit is 3,000 requests a minute from one address."""


class ChatwootChannel(Group):
    """One inbox of Chatwoot, with everything resolved; `inbox_id` None: all that have no channel of their own."""

    name: str
    inbox_id: int | None
    messages_per_second: float
    unconfirmed_policy: UnconfirmedPolicy = "retry"
    window_policy: WindowWord = "send"
