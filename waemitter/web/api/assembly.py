"""The whole API: every operation, and the description of them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from pydantic import RootModel

from waemitter import __version__
from waemitter.inbox.conversations.store import ConversationStore
from waemitter.outbox.campaigns.store import CampaignStore
from waemitter.outbox.intake.store import IntakeStore
from waemitter.outbox.media.library import MediaLibrary
from waemitter.outbox.store import OutboxStore
from waemitter.turns.replies.store import ReplyStore
from waemitter.web.api.campaigns import Campaigns
from waemitter.web.api.conversations import Conversations
from waemitter.web.api.jobs import Desk, Jobs
from waemitter.web.api.media import MediaUploads
from waemitter.web.api.messages import Messages
from waemitter.web.api.model import Nothing
from waemitter.web.api.openapi import describe
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.api.queue import Queue
from waemitter.web.api.serving import Api, Audit
from waemitter.web.auth import Authenticator


class Description(RootModel[dict[str, Any]]):
    """An OpenAPI document."""


def outbox_api(  # noqa: PLR0913 what the API is about, by name
    *,
    outbox: OutboxStore,
    intake: IntakeStore,
    campaigns: CampaignStore,
    media: MediaLibrary,
    jobs: Desk,
    replies: ReplyStore,
    conversations: ConversationStore,
    takeover: timedelta,
    ring: Callable[[], None],
    auth: Authenticator,
    audit: Audit,
    clock: Callable[[], float],
    read_only: bool = False,
) -> Api:
    """The daemon's API. `takeover`: how long a person has a conversation, unless told; `ring` wakes the senders.

    `clock` in seconds, monotonic; `read_only`: nothing is changed.
    """
    operations = (
        *Messages(outbox=outbox, intake=intake).operations(),
        *Queue(intake=intake, campaigns=campaigns, ring=ring, clock=clock).operations(),
        *Campaigns(campaigns=campaigns).operations(),
        *Jobs(desk=jobs).operations(),
        *MediaUploads(media).operations(),
        *Conversations(replies, conversations, takeover=takeover).operations(),
    )
    return build_api(operations, auth=auth, audit=audit, version=__version__, read_only=read_only)


def build_api(
    operations: Sequence[Operation[Any, Any]],
    *,
    auth: Authenticator,
    audit: Audit,
    version: str,
    read_only: bool = False,
) -> Api:
    """Serve these operations, and `GET /api/openapi.json`, which describes them and itself."""

    async def tell(_: Call[Nothing, Nothing]) -> Answer:
        return Answer(document=described)

    description: Operation[Nothing, Nothing] = Operation(
        name="describeApi",
        method="GET",
        path="/api/openapi.json",
        summary="This description.",
        scope=None,
        params=Nothing,
        body=Nothing,
        handle=tell,
        answers={HTTPStatus.OK: Description},
    )
    everything = (*operations, description)
    described = Description(describe(everything, version=version))
    return Api(everything, auth=auth, audit=audit, read_only=read_only)
