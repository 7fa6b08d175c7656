"""`/api/campaigns`: one message to many, made, filled, started, paused, resumed, cancelled and counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson

from waemitter.errors import CampaignEnded, NotFound, PayloadError, UsageError
from waemitter.outbox.campaigns.costs import estimate
from waemitter.outbox.campaigns.enqueue import enqueue
from waemitter.outbox.campaigns.form import Form
from waemitter.outbox.campaigns.quiet import QuietHours, parse_quiet_hours
from waemitter.outbox.campaigns.recipients import Recipient
from waemitter.outbox.campaigns.store import Action, Campaign, CampaignStore, NewCampaign
from waemitter.web.api.campaign_documents import (
    CampaignDocument,
    CampaignPage,
    CampaignReport,
    Content,
    CostDocument,
    CreateBody,
    FailureDocument,
    ListParameters,
    Rejected,
    SendBody,
    Sent,
)
from waemitter.web.api.model import ById, Nothing
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.problems import Fault, Problem, unprocessable

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a list of recipients with their parameters."""
LONG: Final = 120.0
"""Seconds for what touches all messages of a campaign."""

_REFUSED: Final[dict[Action, str]] = {
    "start": "started",
    "pause": "paused",
    "resume": "resumed",
    "cancel": "cancelled",
}


class Campaigns:
    """The handlers, over the campaigns' store."""

    def __init__(self, *, campaigns: CampaignStore) -> None:
        self._campaigns = campaigns

    def operations(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="createCampaign",
                method="POST",
                path="/api/campaigns",
                summary="Make a draft.",
                scope="campaigns",
                params=Nothing,
                body=CreateBody,
                handle=self.create,
                answers={HTTPStatus.CREATED: CampaignDocument},
                audited=True,
            ),
            Operation(
                name="sendCampaign",
                method="POST",
                path="/api/campaigns/send",
                summary="Add recipients, each once, and start it.",
                scope="campaigns",
                params=Nothing,
                body=SendBody,
                handle=self.send,
                answers={HTTPStatus.OK: Sent},
                refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
                audited=True,
                max_body=LARGEST,
                time=LONG,
            ),
            *self._looks(),
            self._change("start", "Start a draft."),
            self._change("pause", "Let no more of it leave."),
            self._change("resume", "Go on with a paused one."),
            self._change("cancel", "End it: what has not left never will."),
        )

    def _looks(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="listCampaigns",
                method="GET",
                path="/api/campaigns",
                summary="The newest campaigns first, page by page.",
                scope="read",
                params=ListParameters,
                body=Nothing,
                handle=self.list,
                answers={HTTPStatus.OK: CampaignPage},
            ),
            Operation(
                name="getCampaign",
                method="GET",
                path="/api/campaigns/{id}",
                summary="One campaign and its counters.",
                scope="read",
                params=ById,
                body=Nothing,
                handle=self.get,
                answers={HTTPStatus.OK: CampaignDocument},
                refusals=(HTTPStatus.NOT_FOUND,),
            ),
            Operation(
                name="reportCampaign",
                method="GET",
                path="/api/campaigns/{id}/report",
                summary="Its counters, what failed by code, and what it cost; reads all its messages.",
                scope="read",
                params=ById,
                body=Nothing,
                handle=self.report,
                answers={HTTPStatus.OK: CampaignReport},
                refusals=(HTTPStatus.NOT_FOUND,),
                time=LONG,
            ),
        )

    def _change(self, action: Action, summary: str) -> Operation[ById, Nothing]:
        return Operation(
            name=f"{action}Campaign",
            method="POST",
            path=f"/api/campaigns/{{id}}/{action}",
            summary=summary,
            scope="campaigns",
            params=ById,
            body=Nothing,
            handle=self._changing(action),
            answers={HTTPStatus.OK: CampaignDocument},
            refusals=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
            audited=True,
            time=LONG,
        )

    async def create(self, call: Call[Nothing, CreateBody]) -> Answer:
        body = call.body
        form = _form(body)
        campaign = NewCampaign(
            name=body.name,
            channel=body.channel,
            category=body.category,
            message_type=body.message_type,
            payload=None if form is None else orjson.dumps(body.payload).decode(),
            messages_per_second=body.messages_per_second,
            priority=body.priority,
            max_attempts=body.max_attempts,
            starts_at=body.starts_at,
            expires_at=body.expires_at,
            created_by=call.caller.actor or call.caller.key,
        ).quiet(_quiet(body.quiet_hours))
        try:
            campaign_id = await self._campaigns.create(campaign)
        except NotFound as error:
            raise unprocessable([Fault("channel", str(error))]) from None
        return Answer(
            document=_shown(await self._campaigns.get(campaign_id)),
            status=HTTPStatus.CREATED,
            headers={"Location": f"/api/campaigns/{campaign_id}"},
        )

    async def send(self, call: Call[Nothing, SendBody]) -> Answer:
        body = call.body
        campaign = await self._found(body.campaign_id)
        form = _form(body) or _form_of(campaign)
        entries = [
            Recipient(each) if isinstance(each, str) else Recipient(each.recipient, each.parameters)
            for each in body.recipients
        ]
        zoned = campaign.quiet_from is not None
        try:
            report = await enqueue(self._campaigns, campaign.id, form, entries, zoned=zoned)
        except CampaignEnded as error:
            raise Problem(HTTPStatus.CONFLICT, f"{error}.") from None
        if body.start and campaign.status != "paused":
            await self._campaigns.change(campaign.id, "start")
        return Answer(
            document=Sent(
                success=True,
                campaign_id=campaign.id,
                queued=report.queued,
                suppressed=report.suppressed,
                duplicates=report.duplicates,
                rejected=[Rejected.model_validate(each._asdict()) for each in report.rejected],
            )
        )

    async def list(self, call: Call[ListParameters, Nothing]) -> Answer:
        asked = call.params
        found = await self._campaigns.list(limit=asked.limit + 1, before=asked.cursor)
        shown = [_shown(campaign) for campaign in found[: asked.limit]]
        more = len(found) > asked.limit
        return Answer(
            document=CampaignPage(campaigns=shown, next_cursor=shown[-1].id if more else None)
        )

    async def get(self, call: Call[ById, Nothing]) -> Answer:
        return Answer(document=_shown(await self._found(call.params.id)))

    async def report(self, call: Call[ById, Nothing]) -> Answer:
        campaign = await self._found(call.params.id)
        failures = await self._campaigns.failures(campaign.id)
        costs = estimate(await self._campaigns.charges(campaign.id), await self._campaigns.rates())
        return Answer(
            document=CampaignReport(
                **_shown(campaign).model_dump(),
                failures=[FailureDocument.model_validate(each._asdict()) for each in failures],
                costs=[CostDocument.model_validate(each._asdict()) for each in costs],
            )
        )

    def _changing(self, action: Action) -> Callable[[Call[ById, Nothing]], Awaitable[Answer]]:
        async def change(call: Call[ById, Nothing]) -> Answer:
            campaign = await self._found(call.params.id)
            if not await self._campaigns.change(campaign.id, action):
                raise Problem(
                    HTTPStatus.CONFLICT,
                    f"Campaign {campaign.id} is {campaign.status}: it cannot be {_REFUSED[action]}.",
                )
            return Answer(document=_shown(await self._found(campaign.id)))

        return change

    async def _found(self, campaign_id: int) -> Campaign:
        try:
            return await self._campaigns.get(campaign_id)
        except NotFound:
            raise Problem(HTTPStatus.NOT_FOUND, f"There is no campaign {campaign_id}.") from None


def _form(content: Content) -> Form | None:
    if content.message_type is None or content.payload is None:
        return None
    try:
        return Form(content.message_type, content.payload)
    except PayloadError as error:
        raise unprocessable([Fault(error.field, error.reason)]) from None


def _form_of(campaign: Campaign) -> Form:
    if campaign.message_type is None or campaign.payload is None:
        raise unprocessable(
            [Fault("payload", "is missing, and the campaign has no message of its own")]
        )
    return Form(campaign.message_type, orjson.loads(campaign.payload))


def _quiet(text: str | None) -> QuietHours | None:
    try:
        return parse_quiet_hours(text) if text else None
    except UsageError as error:
        raise unprocessable([Fault("quietHours", str(error))]) from None


def _shown(campaign: Campaign) -> CampaignDocument:
    hours = (campaign.quiet_from, campaign.quiet_until)
    return CampaignDocument.model_validate(
        {
            **campaign._asdict(),
            "progress": campaign.progress,
            "payload": None if campaign.payload is None else orjson.loads(campaign.payload),
            "quiet_hours": "-".join(f"{hour:%H:%M}" for hour in hours if hour) or None,
        }
    )
