"""What a webhook field can mean for us: one typed effect for each thing that it tells.

`subject` names what the news is about, so that the newest about each wins in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from waemitter.inbox.fields.past import Past

Kind: TypeAlias = Literal[
    "template", "number", "account", "preference", "echo", "call", "history", "group", "other"
]
TemplateState: TypeAlias = Literal["usable", "paused", "ended"]


@dataclass(frozen=True, slots=True)
class TemplateChanged:
    """A template may be sent (again), is paused, or is at its end. `pause` None: until Meta or an operator says more."""

    name: str
    language: str
    state: TemplateState
    word: str
    reason: str | None = None
    pause: timedelta | None = None
    category: str | None = None

    @property
    def subject(self) -> str:
        return f"{self.name}/{self.language}"


@dataclass(frozen=True, slots=True)
class TemplateJudged:
    """A template's quality or category, in Meta's words; `before` and `after` are None when it does not say."""

    name: str
    language: str
    aspect: Literal["quality", "category"]
    before: str | None
    after: str | None
    warning: bool = False

    @property
    def subject(self) -> str:
        return f"{self.name}/{self.language}"


@dataclass(frozen=True, slots=True)
class NumberJudged:
    """A number's quality, tier or throughput; `number` in digits, None: every number of the account."""

    word: str
    number: str | None = None
    quality: str | None = None
    tier: str | None = None
    upgraded: bool = False

    @property
    def subject(self) -> str:
        return self.number or ""


@dataclass(frozen=True, slots=True)
class AccountBarred:
    """The account may not send: nothing at all, or no templates (`all_messages` False). `until` None: until it is lifted."""

    word: str
    until: datetime | None
    all_messages: bool = True
    subject: str = ""


@dataclass(frozen=True, slots=True)
class AccountFreed:
    """What stopped the account has been taken back."""

    word: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """Somebody should look; nothing is changed by it. The words are Meta's."""

    word: str
    severity: str | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """A person wants no marketing messages, or wants them again. `wa_id` in digits; one of the two ids is there."""

    wa_id: str | None
    user_id: str | None
    marketing: bool
    at: datetime | None

    @property
    def subject(self) -> str:
        return self.user_id or self.wa_id or ""


@dataclass(frozen=True, slots=True)
class Echo:
    """A colleague has written to a customer with the WhatsApp Business app on the phone."""

    wamid: str
    wa_id: str | None
    user_id: str | None
    type: str
    at: datetime | None
    raw: Mapping[str, Any]
    subject: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Messages of the past, and how far Meta has come with them."""

    messages: Sequence[Past]
    word: str | None = None
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """Journalled and counted, and nothing else."""

    kind: Kind
    word: str | None = None
    subject: str = ""


Effect: TypeAlias = (
    TemplateChanged
    | TemplateJudged
    | NumberJudged
    | AccountBarred
    | AccountFreed
    | Alert
    | Preference
    | Echo
    | History
    | Told
)
