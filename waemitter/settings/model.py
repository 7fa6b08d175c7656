"""The tree of all settings: each one's name, default and meaning, once.

Durations are floats of seconds; secrets are SecretStr or Dsn, which no representation gives away.
From this tree come the names in the environment and in waemitter.toml, `waemitter check` and
docs/configuration.md.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from waemitter.inbox.fields.actions import Rules
from waemitter.settings.answering import AgentSettings
from waemitter.settings.durations import Duration
from waemitter.settings.metadata import Group, group, setting
from waemitter.settings.operating import (
    AlertsSettings,
    HttpSettings,
    LoggingSettings,
    RetentionSettings,
    SloSettings,
)
from waemitter.settings.receiving import (
    ChatwootSettings,
    DlqSettings,
    InboxSettings,
    MediaSettings,
    OpenAISettings,
    OptOutSettings,
    SessionsSettings,
    TurnsSettings,
    silenced,
)
from waemitter.settings.routes import RouteSettings
from waemitter.settings.sending import (
    ChannelLimits,
    ChannelSettings,
    ChatwootChannel,
    DatabaseSettings,
    OutboxSettings,
    WhatsAppSettings,
)
from waemitter.settings.subscribing import EventSettings
from waemitter.settings.tracing import TracingSettings


class Settings(Group):
    """Every setting of one daemon; frozen. `waemitter.settings.load` makes it."""

    database: DatabaseSettings = group(DatabaseSettings, "Where the queue lives.")
    whatsapp: WhatsAppSettings = group(
        WhatsAppSettings, "Meta's credentials, by their usual names."
    )
    outbox: OutboxSettings = group(OutboxSettings, "How messages leave.")
    channel: ChannelLimits = group(
        ChannelLimits, "The limits of every number; a `[[channels]]` table may set its own."
    )
    http: HttpSettings = group(HttpSettings, "What the world sees.")
    logging: LoggingSettings = group(LoggingSettings, "What is written to stderr.")
    tracing: TracingSettings = group(
        TracingSettings, "What OpenTelemetry gets; see [observability](observability.md#traces)."
    )
    grace: Duration = setting(
        30.0, "How long a daemon that is told to stop may finish what it began.", gt=0
    )
    inbox: InboxSettings = group(
        InboxSettings, "How webhooks are kept, and messages gathered into windows."
    )
    optout: OptOutSettings = group(
        OptOutSettings, "The words by which people stop your messages, and start them again."
    )
    media: MediaSettings = group(MediaSettings, "The files that customers send.")
    turns: TurnsSettings = group(TurnsSettings, "How a window is answered.")
    openai: OpenAISettings = group(OpenAISettings, "The model behind agents.")
    sessions: SessionsSettings = group(SessionsSettings, "Whom a contact talks to.")
    dlq: DlqSettings = group(DlqSettings, "The dead letters' own retries.")
    chatwoot: ChatwootSettings = group(ChatwootSettings, "Where people answer.")
    retention: RetentionSettings = group(RetentionSettings, "How long rows are kept.")
    slo: SloSettings = group(SloSettings, "What is promised, and measured.")
    alerts: AlertsSettings = group(AlertsSettings, "When somebody is told.")

    @property
    def field_rules(self) -> Rules:
        """What the inbox follows when Meta or a customer tells what is no message."""
        optout = self.optout
        return Rules(
            languages=optout.languages,
            stop_words=optout.stop_words,
            start_words=optout.start_words,
            stop_reply=silenced(optout.stop_reply),
            start_reply=silenced(optout.start_reply),
            everywhere=optout.scope == "all",
            ended_waits=self.outbox.ended_templates == "hold",
            takeover=timedelta(seconds=self.inbox.takeover),
        )

    @property
    def channel_names(self) -> list[str]:
        """Of numbers and inboxes."""
        numbers = [channel.name for channel in self.channels]
        return [*numbers, *(desk.name for desk in self.desks)]

    channels: tuple[ChannelSettings, ...] = Field(
        default=(), description="The numbers to send from; `load` finds at least one."
    )
    desks: tuple[ChatwootChannel, ...] = Field(
        default=(), description="The Chatwoot inboxes; none without `chatwoot.base_url`."
    )
    folder: Path = Field(default=Path(), description="Where waemitter.toml is; found, never set.")
    routes: tuple[RouteSettings, ...] = Field(default=(), repr=False, description="`[[routes]]`.")
    agents: tuple[AgentSettings, ...] = Field(
        default=(), repr=False, description="`[agents.*]`, completed."
    )
    subscriptions: tuple[EventSettings, ...] = Field(
        default=(), repr=False, description="`[events.*]`, completed."
    )
