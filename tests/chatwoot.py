"""A Chatwoot on localhost: contacts, conversations and messages of one account, signed webhooks, and faults.

Shapes are those of Chatwoot 4 (api_access_token, `payload` around lists, display ids, `message_type` as a word in webhooks and a
number in lists). It keeps unknown keys of `content_attributes`, takes no idempotency key, and sends each webhook once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from waemitter.chatwoot.signature import sign

ACCOUNT: Final = 7
INBOX: Final = 5
TOKEN: Final = "agent-token"
SECRET: Final = "chatwoot's secret"
KINDS: Final = ("incoming", "outgoing", "activity", "template")
AGENT: Final = {"id": 11, "name": "Carol", "type": "user"}


@dataclass
class Chatwoot:
    """`faults`: what becomes of the next POSTs of messages, one each: `500`, `500 after`, `drop after`, `429`, `401`, `404`.

    `webhook`: where to, None = nowhere; `lost`: webhooks do not go out; `times`: how often each does.
    """

    url: str = ""
    webhook: str | None = None
    lost: bool = False
    times: int = 1
    api: bool = True
    faults: list[str] = field(default_factory=list)
    contacts: dict[int, dict[str, Any]] = field(default_factory=dict)
    conversations: dict[int, dict[str, Any]] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    files: list[tuple[str, str, bytes]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(100))

    # What people do there.

    async def write(
        self, conversation_id: int, content: str | None, *, kind: str = "outgoing", **more: Any
    ) -> dict[str, Any]:
        """A message by an agent, or (`incoming`) by the contact, with its webhook."""
        message = self.keep(conversation_id, content, kind=kind, **more)
        await self.tell(self.created(message))
        return message

    def keep(
        self, conversation_id: int, content: str | None, *, kind: str = "outgoing", **more: Any
    ) -> dict[str, Any]:
        conversation = self.conversations[conversation_id]
        contact = {**conversation["meta"]["sender"], "type": "contact"}
        message = {
            "id": next(self._ids),
            "content": content,
            "message_type": KINDS.index(kind),
            "content_type": "text",
            "content_attributes": {},
            "private": False,
            "created_at": int(time.time()),
            "sender": contact if kind == "incoming" else AGENT,
            "conversation_id": conversation_id,
            "inbox_id": conversation["inbox_id"],
            **more,
        }
        self.messages.append(message)
        conversation["last_activity_at"] = conversation["timestamp"] = int(time.time())
        return message

    async def change(self, conversation_id: int, **facts: Any) -> None:
        """Assign it (`assignee`: a person, or None), resolve it (`status`), with its webhook."""
        conversation = self.conversations[conversation_id]
        if "assignee" in facts:
            conversation["meta"]["assignee"] = facts.pop("assignee")
        conversation.update(facts)
        conversation["updated_at"] = time.time()
        await self.tell({"event": "conversation_updated", **self._account(), **conversation})

    def begin(self, *, phone: str | None = "+14155550123", name: str = "Ada") -> int:
        """A contact comes by himself, through an inbox of Chatwoot's own."""
        contact = self._contact({"name": name, "phone_number": phone})
        return int(self._conversation(contact["id"], source_id=None)["id"])

    def created(self, message: dict[str, Any]) -> dict[str, Any]:
        """As the webhook tells it: words and ISO times at the top."""
        conversation = self.conversations[message["conversation_id"]]
        return {
            "event": "message_created",
            **message,
            "message_type": KINDS[message["message_type"]],
            "created_at": datetime.fromtimestamp(message["created_at"], UTC).isoformat(),
            "inbox": {"id": message["inbox_id"], "name": "Support"},
            "conversation": {**conversation, "messages": [message]},
            **self._account(),
        }

    async def tell(self, document: dict[str, Any]) -> None:
        self.told.append(document)
        if self.webhook is None or self.lost:
            return
        body, stamp = orjson.dumps(document), str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Chatwoot-Timestamp": stamp,
            "X-Chatwoot-Signature": sign(SECRET, timestamp=stamp, raw=body),
        }
        async with aiohttp.ClientSession() as session:
            for _ in range(self.times):
                async with session.post(self.webhook, data=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

    def said(self, kind: str = "incoming") -> list[str]:
        return [each["content"] for each in self.messages if KINDS[each["message_type"]] == kind]

    # The API.

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded])
        root = f"/api/v1/accounts/{ACCOUNT}"
        routes: list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]] = [
            ("GET", "/agents", self._agents),
            ("GET", "/contacts/search", self._search),
            ("POST", "/contacts", self._new_contact),
            ("GET", "/contacts/{id}/conversations", self._conversations_of),
            ("GET", "/conversations", self._list),
            ("POST", "/conversations", self._new_conversation),
            ("GET", "/conversations/{id}/messages", self._messages),
            ("POST", "/conversations/{id}/messages", self._post),
        ]
        for method, path, handle in routes:
            app.router.add_route(method, root + path, handle)
        app.router.add_get("/files/{name}", self._file)
        return app

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if request.path.startswith("/api") and request.headers.get("api_access_token") != TOKEN:
            return web.json_response({"error": "Invalid Access Token"}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _agents(self, _: web.Request) -> web.Response:
        return web.json_response([AGENT])

    async def _file(self, request: web.Request) -> web.Response:
        return web.Response(body=request.match_info["name"].encode(), content_type="image/png")

    async def _search(self, request: web.Request) -> web.Response:
        word = request.query["q"]
        found = [
            each
            for each in self.contacts.values()
            if any(word in str(each.get(key)) for key in ("name", "phone_number", "identifier"))
        ]
        return web.json_response({"meta": {"count": len(found)}, "payload": found})

    async def _new_contact(self, request: web.Request) -> web.Response:
        given = await request.json()
        for key in ("phone_number", "identifier"):
            if given.get(key) and any(
                each.get(key) == given[key] for each in self.contacts.values()
            ):
                return web.json_response({"message": f"{key} has already been taken"}, status=422)
        return web.json_response({"payload": {"contact": self._contact(given)}})

    def _contact(self, given: dict[str, Any]) -> dict[str, Any]:
        contact = {"id": next(self._ids), "phone_number": None, "identifier": None, **given}
        self.contacts[contact["id"]] = contact
        return contact

    async def _conversations_of(self, request: web.Request) -> web.Response:
        mine = int(request.match_info["id"])
        found = [
            each for each in self.conversations.values() if each["meta"]["sender"]["id"] == mine
        ]
        return web.json_response({"payload": found})

    async def _new_conversation(self, request: web.Request) -> web.Response:
        given = await request.json()
        made = self._conversation(given["contact_id"], source_id=given.get("source_id"))
        await self.tell({"event": "conversation_created", **self._account(), **made})
        return web.json_response(made)

    def _conversation(self, contact_id: int, *, source_id: str | None) -> dict[str, Any]:
        now = time.time()
        conversation = {
            "id": len(self.conversations) + 1,
            "inbox_id": INBOX,
            "status": "open",
            "channel": "Channel::Api" if self.api else "Channel::Whatsapp",
            "meta": {"sender": self.contacts[contact_id], "assignee": None},
            "contact_inbox": {"source_id": source_id},
            "timestamp": int(now),
            "last_activity_at": int(now),
            "updated_at": now,
        }
        self.conversations[len(self.conversations) + 1] = conversation
        return conversation

    async def _list(self, request: web.Request) -> web.Response:
        page = int(request.query["page"])
        rows = sorted(
            self.conversations.values(), key=lambda each: each["last_activity_at"], reverse=True
        )
        return web.json_response(
            {"data": {"meta": {}, "payload": rows[(page - 1) * 25 : page * 25]}}
        )

    async def _messages(self, request: web.Request) -> web.Response:
        of = int(request.match_info["id"])
        found = [each for each in self.messages if each["conversation_id"] == of]
        if (after := request.query.get("after")) is not None:
            found = [each for each in found if each["id"] > int(after)][:100]
        else:
            before = int(request.query.get("before", 2**62))
            found = [each for each in found if each["id"] < before][-20:]
        return web.json_response({"meta": {}, "payload": found})

    async def _post(self, request: web.Request) -> web.Response:
        fault = self.faults.pop(0) if self.faults else ""
        number = int(request.match_info["id"])
        if fault == "404" or number not in self.conversations:
            return web.json_response({"error": "Resource could not be found"}, status=404)
        if fault in {"500", "401", "422"}:
            return web.json_response({"error": "no"}, status=int(fault))
        if fault == "429":
            return web.Response(status=429, headers={"Retry-After": "3"})
        given = await self._given(request)
        kind = given["message_type"]
        if kind == "incoming" and not self.api:
            return web.json_response({"error": "only allowed in Api inboxes"}, status=422)
        message = self.keep(
            number,
            given.get("content"),
            kind=kind,
            content_type=given.get("content_type", "text"),
            content_attributes=given["content_attributes"],
            private=given["private"],
            **({"template_params": given["template_params"]} if "template_params" in given else {}),
        )
        await self.tell(self.created(message))
        if fault == "500 after":
            return web.Response(status=502, text="<html>Bad Gateway</html>")
        if fault == "drop after":
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(message)

    async def _given(self, request: web.Request) -> dict[str, Any]:
        if request.content_type == "application/json":
            given: dict[str, Any] = await request.json()
            return given
        form = await request.post()
        file = form["attachments[]"]
        assert isinstance(file, web.FileField)
        self.files.append((file.filename, file.content_type, file.file.read()))
        fields = {key: value for key, value in form.items() if isinstance(value, str)}
        return {**fields, "content_attributes": orjson.loads(fields["content_attributes"])}

    @staticmethod
    def _account() -> dict[str, Any]:
        return {"account": {"id": ACCOUNT, "name": "Shop"}}


@asynccontextmanager
async def chatwoot(webhook: str | None = None, *, api: bool = True) -> AsyncIterator[Chatwoot]:
    """`api`: its inbox is an API inbox, else one of WhatsApp's that Chatwoot itself delivers."""
    fake = Chatwoot(webhook=webhook, api=api)
    runner = web.AppRunner(fake.app(), shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await asyncio.shield(runner.cleanup())
