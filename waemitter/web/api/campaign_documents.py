"""What `/api/campaigns` is told, and what it answers."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any, Final, Self

from pydantic import (
    AwareDatetime,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from waemitter.outbox.campaigns.store import Category
from waemitter.web.api.model import Answered, Body, Parameters

MOST_RECIPIENTS: Final = 100_000


class Content(Body):
    """A message; its strings may hold {{name}}, which the recipients' parameters fill."""

    message_type: str | None = Field(None, min_length=1, max_length=64, examples=["text"])
    payload: dict[str, Any] | None = Field(
        None,
        description="The Cloud API's object for the type, keyed as there.",
        examples=[{"text": {"body": "Hello {{name}}"}}],
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.message_type is None) != (self.payload is None):
            raise ValueError("messageType and payload come together")
        return self


class CreateBody(Content):
    name: str = Field(min_length=1, max_length=256, examples=["Summer sale"])
    channel: str = Field("default", min_length=1, max_length=63)
    category: Category = Field(
        Category.MARKETING, description="Of its messages; opt-outs concern them by it."
    )
    messages_per_second: float | None = Field(None, gt=0, le=10_000)
    priority: int = Field(0, ge=-1000, le=1000, description="Higher goes first.")
    max_attempts: int | None = Field(None, ge=0, le=100, description="Retries after the first try.")
    starts_at: AwareDatetime | None = Field(None, description="Nothing leaves earlier.")
    expires_at: AwareDatetime | None = Field(None, description="Nothing leaves later.")
    quiet_hours: str | None = Field(
        None, max_length=32, description="By the recipient's clock.", examples=["21:00-08:00"]
    )


class Addressee(Body):
    recipient: str = Field(max_length=256, examples=["+14155550123"])
    parameters: dict[str, str] = Field({}, examples=[{"name": "Ada"}])


class SendBody(Content):
    campaign_id: int = Field(ge=1, le=2**63 - 1, examples=[1])
    recipients: list[str | Addressee] = Field(
        max_length=MOST_RECIPIENTS, description="Numbers, or numbers with parameters."
    )
    start: bool = Field(
        default=True, description="false: what is added to a draft waits for its start."
    )


class Rejected(Answered):
    recipient: str
    reason: str


class Sent(Answered):
    success: bool
    campaign_id: int
    queued: int
    suppressed: int = Field(description="Recipients who opted out.")
    duplicates: int = Field(0, description="Recipients who had the message already; left out if 0.")
    rejected: list[Rejected]

    @model_serializer(mode="wrap")
    def _without_zero(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        if not self.duplicates:
            document.pop("duplicates", None)
        return document


class CampaignDocument(Answered):
    """sent ≥ delivered ≥ read; `progress`: whole percent of the messages that have an outcome."""

    id: int
    name: str
    channel: str
    category: str
    status: str
    progress: int
    total: int
    sent: int
    delivered: int
    read: int
    failed: int
    suppressed: int
    cancelled: int
    expired: int
    clicked: int
    replied: int
    message_type: str | None
    payload: dict[str, Any] | None
    messages_per_second: float | None
    priority: int
    max_attempts: int | None
    starts_at: datetime.datetime | None
    expires_at: datetime.datetime | None
    quiet_hours: str | None
    created_by: str
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None


class FailureDocument(Answered):
    code: int | None
    messages: int
    message: str | None


class CostDocument(Answered):
    """Delivered messages; `amount` and `currency` are None when no rate is known."""

    country: str
    category: str
    billable: bool
    messages: int
    amount: Decimal | None
    currency: str | None


class CampaignReport(CampaignDocument):
    failures: list[FailureDocument]
    costs: list[CostDocument]


class ListParameters(Parameters):
    cursor: int | None = Field(None, ge=1, le=2**63 - 1, description="As the last page gave it.")
    limit: int = Field(50, ge=1, le=500)


class CampaignPage(Answered):
    campaigns: list[CampaignDocument]
    next_cursor: int | None
