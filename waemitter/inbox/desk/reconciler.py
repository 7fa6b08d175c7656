"""What a lost webhook of Chatwoot's would have brought: Chatwoot is asked, and the answer is journalled as if it had come.

Chatwoot sends the webhooks of an account or an API inbox once, and never again (chatwoot/chatwoot #15920). So every few minutes
the conversations that were active since the last time are listed, with their messages; those that nobody knows take the way of
all webhooks, where their keys see to it that each has its effect once.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from waemitter.chatwoot.client import Answered, ChatwootClient, Reply
from waemitter.chatwoot.webhooks import Conversation, as_changed, as_created, instant
from waemitter.errors import WaemitterError
from waemitter.inbox.desk.effects import Inboxes, key_of
from waemitter.inbox.desk.store import DeskStore

MARGIN: Final = datetime.timedelta(minutes=2)
"""What is younger than the last time less this is looked at once more: Chatwoot's clock is not ours."""
PAGES: Final = 40
"""Of 25 conversations, in one run."""
LISTS: Final = 20
"""Of 100 messages, of one conversation in one run."""


class ChatwootSilent(WaemitterError):
    """Chatwoot did not tell what was asked; the next run asks again."""


class Journal(Protocol):
    def __call__(self, bodies: Sequence[bytes]) -> Awaitable[None]:
        """Journal documents as webhooks. Raises DatabaseUnreachable."""
        ...


class DeskReconciler:
    def __init__(
        self,
        store: DeskStore,
        client: ChatwootClient,
        inboxes: Inboxes,
        *,
        journal: Journal,
        clock: Callable[[], float],
    ) -> None:
        """`clock` in seconds, monotonic."""
        self._store = store
        self._client = client
        self._inboxes = inboxes
        self._journal = journal
        self._clock = clock

    async def run(self) -> Mapping[str, Any]:
        """Raises ChatwootSilent, or DatabaseUnreachable."""
        started = self._clock()
        looked, found = 0, 0
        for inbox_id, channel in self._inboxes.channels.items():
            since = await self._store.reconciled_until(channel) - MARGIN
            active, newest = await self._active(inbox_id, since)
            for conversation in active:
                looked += 1
                found += await self._reconcile(channel, inbox_id, conversation, since)
            if newest is not None:
                await self._store.note_inbox(channel, newest)
        took = self._clock() - started
        return {
            "success": True,
            "conversations": looked,
            "messages": found,
            "durationMs": round(took * 1000),
        }

    async def _active(
        self, inbox_id: int | None, since: datetime.datetime
    ) -> tuple[list[dict[str, Any]], datetime.datetime | None]:
        """Conversations with activity since then, the oldest first, and the time of the latest activity."""
        active: dict[int, dict[str, Any]] = {}
        newest: datetime.datetime | None = None
        for page in range(1, PAGES + 1):
            rows = _rows(await self._client.conversations(inbox_id, page=page))
            young = 0
            for row in rows:
                at = Conversation.model_validate(row).last_activity_at
                if at is None or at >= since:
                    young += 1
                    active[row["id"]] = row
                    newest = max(filter(None, (newest, at)), default=None)
            if young < len(rows) or not rows:
                break
        return list(reversed(active.values())), newest

    async def _reconcile(
        self,
        channel: str,
        inbox_id: int | None,
        conversation: dict[str, Any],
        since: datetime.datetime,
    ) -> int:
        """Journal what nobody knows of a conversation; how many messages that are."""
        chatwoot_id = conversation["id"]
        known = await self._store.reconciled_ids(channel, [chatwoot_id])
        after = known.get(chatwoot_id, 0)
        if after:
            messages = await self._behind(chatwoot_id, after)
        else:
            messages = await self._latest(chatwoot_id, since)
        account_id = self._inboxes.account_id
        keys = {key_of(account_id, message["id"]): message for message in messages}
        unknown = await self._store.unknown(channel, list(keys))
        inbox = conversation.get("inbox_id") or inbox_id
        bodies = [
            orjson.dumps(as_created(keys[key], conversation, account_id=account_id, inbox_id=inbox))
            for key in keys
            if key in unknown
        ]
        changed = as_changed(conversation, account_id=account_id, inbox_id=inbox)
        await self._journal([*bodies, orjson.dumps(changed)])
        if messages:
            up_to = max(message["id"] for message in messages)
            await self._store.note_messages(channel, chatwoot_id, up_to)
        return len(bodies)

    async def _behind(self, chatwoot_id: int, after: int) -> list[dict[str, Any]]:
        """All messages behind that one."""
        found: list[dict[str, Any]] = []
        for _ in range(LISTS):
            rows = _rows(await self._client.messages(chatwoot_id, after=after))
            if not rows:
                break
            found += rows
            after = max(row["id"] for row in rows)
        return found

    async def _latest(self, chatwoot_id: int, since: datetime.datetime) -> list[dict[str, Any]]:
        """Of a conversation that was not asked for before: what is older was answered by somebody else, or never will be."""
        found: list[dict[str, Any]] = []
        query: dict[str, int] = {}
        for _ in range(LISTS):
            rows = _rows(await self._client.messages(chatwoot_id, **query))
            young = [row for row in rows if (at := instant(row.get("created_at"))) and at >= since]
            found = young + found
            if not rows or len(young) < len(rows):
                break
            query = {"before": min(row["id"] for row in rows)}
        return found


def _rows(reply: Reply) -> list[dict[str, Any]]:
    """Those with an id. Raises ChatwootSilent."""
    if not isinstance(reply, Answered) or not reply.good:
        said = str(reply.status) if isinstance(reply, Answered) else reply.reason
        raise ChatwootSilent(f"Chatwoot did not list what was asked ({said})")
    document = reply.document
    if isinstance(document, dict) and isinstance(document.get("data"), dict):
        document = document["data"]
    rows = document.get("payload") if isinstance(document, dict) else document
    listed = rows if isinstance(rows, list) else []
    return [row for row in listed if isinstance(row, dict) and type(row.get("id")) is int]
