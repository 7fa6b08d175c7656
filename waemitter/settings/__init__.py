"""Settings: from the command line, the environment, waemitter.toml and defaults, in that order."""

from waemitter.settings.answering import AgentSettings
from waemitter.settings.catalogue import ENTRIES, Entry
from waemitter.settings.consistency import missing_to_run
from waemitter.settings.durations import format_duration, parse_duration
from waemitter.settings.findings import InvalidSettings
from waemitter.settings.loading import Loaded, load
from waemitter.settings.model import Settings
from waemitter.settings.routes import Answering, RouteSettings
from waemitter.settings.sending import ChannelSettings, ChatwootChannel
from waemitter.settings.subscribing import EventSettings, EventTable
from waemitter.settings.values import ApiKey, Dsn

__all__ = [
    "ENTRIES",
    "AgentSettings",
    "Answering",
    "ApiKey",
    "ChannelSettings",
    "ChatwootChannel",
    "Dsn",
    "Entry",
    "EventSettings",
    "EventTable",
    "InvalidSettings",
    "Loaded",
    "RouteSettings",
    "Settings",
    "format_duration",
    "load",
    "missing_to_run",
    "parse_duration",
]
