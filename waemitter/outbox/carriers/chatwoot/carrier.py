"""A row goes into its conversation of Chatwoot, which is found, or made, first.

Chatwoot takes no idempotency key. So each message has our marker, and whoever makes a further attempt asks for it before he posts
again: after a lost connection, a time-out, a 5xx behind the acceptance or a killed daemon.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import orjson
from typing_extensions import override

from waemitter.chatwoot import FROM_CUSTOMER
from waemitter.chatwoot.client import Answered, ChatwootClient, File
from waemitter.chatwoot.messages import Media, Post, post_of
from waemitter.errors import PayloadError
from waemitter.outbox.carriers.carrier import Carrier, Delivery
from waemitter.outbox.carriers.chatwoot.answers import judge, key_of, listed, posted, refuse
from waemitter.outbox.carriers.chatwoot.store import PlaceStore, Target
from waemitter.outbox.message import Attempt, Echo
from waemitter.whatsapp.errors import Accepted, ErrorClass, Refused
from waemitter.whatsapp.health import Health

PAGES: Final = 10
"""Pages of 20 messages in which an earlier attempt is looked for: nothing else of ours goes there meanwhile."""

_GONE: Final = 404
_TAKEN: Final = 422


class Files(Protocol):
    async def fetch(self, media: Media, *, channel: str | None) -> File | None:
        """The file of a message, `channel`'s if it has an id of Meta's; None: it cannot be had."""
        ...


class Nowhere(Exception):
    """There is no conversation to write into; `answer` says what that means for the row."""

    def __init__(self, answer: Refused) -> None:
        super().__init__(answer.message)
        self.answer = answer


class ChatwootCarrier(Carrier):
    def __init__(
        self,
        channel: str,
        store: PlaceStore,
        client: ChatwootClient,
        *,
        inbox_id: int | None,
        files: Files,
    ) -> None:
        """`inbox_id`: where new conversations are made; None: none are."""
        self._channel = channel
        self._store = store
        self._client = client
        self._inbox_id = inbox_id
        self._files = files

    @override
    def render(self, attempt: Attempt) -> bytes:
        """Check that it becomes something; what is sent is made when its file is there."""
        payload = _payload(attempt)
        post = post_of(attempt.message_type, payload)
        if not post.content and post.media is None and post.template_params is None:
            raise PayloadError(
                "payload", f"says nothing that Chatwoot could show: {attempt.message_type}"
            )
        return b""

    @override
    async def send(self, attempt: Attempt, body: bytes) -> Delivery:
        target = await self._store.target(self._channel, attempt.recipient)
        if target is None:
            said = "nobody of this inbox has that address"
            return Delivery(Refused(ErrorClass.FAIL, None, said), answered=True)
        try:
            tokens = await self._store.tokens(attempt.id)
            if target.chatwoot_id is not None and tokens:
                found = await self._found(target.chatwoot_id, attempt, tokens)
                if found is not None:
                    return Delivery(found, answered=True)
            chatwoot_id = target.chatwoot_id or await self._begin(target, attempt)
        except Nowhere as error:
            return Delivery(error.answer, answered=True)
        return await self._post(chatwoot_id, attempt)

    async def health_status(self) -> Health | Refused:
        """Ask whether the token is good."""
        reply = await self._client.look()
        good = isinstance(reply, Answered) and reply.good
        return Health("AVAILABLE", ()) if good else refuse(reply)

    async def _post(self, chatwoot_id: int, attempt: Attempt) -> Delivery:
        post, file = await self._made(attempt)
        marker = Echo(attempt.id, attempt.token).text()
        reply = await self._client.post_message(chatwoot_id, post, marker=marker, file=file)
        if isinstance(reply, Answered) and reply.status == _GONE:
            await self._store.unlink(self._channel, chatwoot_id)
            said = f"Chatwoot has conversation {chatwoot_id} no more"
            return Delivery(Refused(ErrorClass.RETRY, None, said), answered=True)
        return Delivery(judge(reply), answered=isinstance(reply, Answered))

    async def _made(self, attempt: Attempt) -> tuple[Post, File | None]:
        payload = _payload(attempt)
        post = post_of(attempt.message_type, payload)
        if post.media is None:
            return post, None
        origin = payload.get(FROM_CUSTOMER)
        channel = origin.get("channel") if isinstance(origin, dict) else None
        file = await self._files.fetch(post.media, channel=channel)
        if file is None:
            words = (f"[{post.media.kind}]", post.content, post.media.link)
            return Post("\n".join(filter(None, words)), post.incoming), None
        return post, file

    async def _found(
        self, chatwoot_id: int, attempt: Attempt, tokens: frozenset[int]
    ) -> Accepted | None:
        """The message that an earlier attempt left, if one did. Raises Nowhere when Chatwoot does not say."""
        query: dict[str, int] = {}
        for _ in range(PAGES):
            reply = await self._client.messages(chatwoot_id, **query)
            if isinstance(reply, Answered) and reply.status == _GONE:
                return None
            if not isinstance(reply, Answered) or not reply.good:
                raise Nowhere(refuse(reply))
            rows = listed(reply.document)
            found = posted(rows, message_id=attempt.id, tokens=tokens)
            if found is not None:
                return Accepted(key_of(found), None, None)
            ids = [row["id"] for row in rows if type(row.get("id")) is int]
            if not ids:
                return None
            query = {"before": min(ids)}
        return None

    async def _begin(self, target: Target, attempt: Attempt) -> int:
        """Find or make the contact's conversation. Raises Nowhere."""
        if self._inbox_id is None:
            said = "set the inbox_id of this channel: without one, no conversation can be made"
            raise Nowhere(Refused(ErrorClass.FAIL, None, said))
        contact_id = await self._contact(target, self._inbox_id)
        theirs = attempt.recipient.startswith("conversation:")
        reply = await self._client.contact_conversations(contact_id)
        open_ones = [
            row["id"]
            for row in _rows(reply)
            if row.get("inbox_id") == self._inbox_id and type(row.get("id")) is int
        ]
        chatwoot_id = max(open_ones, default=None)
        if chatwoot_id is None:
            source = attempt.recipient if theirs else None
            made = await self._client.create_conversation(
                inbox_id=self._inbox_id, contact_id=contact_id, source_id=source
            )
            chatwoot_id = _id_in(made, "id")
        await self._store.link(self._channel, chatwoot_id, target.conversation_id)
        return chatwoot_id

    async def _contact(self, target: Target, inbox_id: int) -> int:
        """Raises Nowhere."""
        word = target.phone or target.identifier or ""
        for row in _rows(await self._client.find_contacts(word.removeprefix("+"))):
            if word in {row.get("phone_number"), row.get("identifier")} and word:
                return int(row["id"])
        contact: dict[str, Any] = {"inbox_id": inbox_id, "name": target.name or word}
        key = "phone_number" if target.phone else "identifier"
        made = await self._client.create_contact({**contact, key: word})
        if isinstance(made, Answered) and made.status == _TAKEN:
            # somebody has just made it, or Chatwoot's search is behind: it is found the next time
            raise Nowhere(Refused(ErrorClass.RETRY, None, "Chatwoot has that contact already"))
        return _id_in(made, "payload", "contact", "id")


def _rows(reply: Any) -> list[dict[str, Any]]:
    """Raises Nowhere."""
    if not isinstance(reply, Answered) or not reply.good:
        raise Nowhere(refuse(reply))
    return listed(reply.document)


def _id_in(reply: Any, *path: str) -> int:
    """Raises Nowhere."""
    if not isinstance(reply, Answered) or not reply.good:
        raise Nowhere(refuse(reply))
    found = reply.document
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    if type(found) is not int:
        raise Nowhere(Refused(ErrorClass.RETRY, None, "Chatwoot's answer has no id"))
    return found


def _payload(attempt: Attempt) -> dict[str, Any]:
    payload: Any = orjson.loads(attempt.payload)
    if not isinstance(payload, dict):
        raise PayloadError("payload", 'must be a JSON object like {"text": {"body": "…"}}')
    return payload
