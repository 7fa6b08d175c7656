"""The simulator's own API under `/_simulator`: look into it, steer it, play the customer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final

import orjson
from aiohttp import web

from waemitter.simulator.recipients import recipient_of
from waemitter.simulator.shapes import Refusal
from waemitter.simulator.templates import Template
from waemitter.simulator.webhooks import encode
from waemitter.simulator.world import World

_PAGE: Final = 100
_MOST: Final = 10_000
_Handler = Callable[[web.Request], Awaitable[web.Response]]


class Control:
    """Handlers over a world. A bad request is a 400 with `{"error": "…"}`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def add_routes(self, router: web.UrlDispatcher) -> None:
        base = "/_simulator"
        router.add_get(f"{base}/report", self.report)
        router.add_get(f"{base}/messages", _guarded(self.messages))
        router.add_delete(f"{base}/messages", self.reset)
        router.add_delete(base, self.reset)
        router.add_get(f"{base}/options", self.options)
        router.add_patch(f"{base}/options", _guarded(self.change_options))
        router.add_post(f"{base}/customers/messages", _guarded(self.customer_message))
        router.add_get(f"{base}/templates", self.templates)
        router.add_post(f"{base}/templates", _guarded(self.declare_templates))
        router.add_post(f"{base}/media", _guarded(self.add_media))
        router.add_post(f"{base}/webhook", _guarded(self.webhook))

    async def report(self, _: web.Request) -> web.Response:
        pending = self._world.courier.pending
        return _json({**self._world.ledger.report(), "pending_webhooks": pending})

    async def messages(self, request: web.Request) -> web.Response:
        """Serve a page of the ledger; `next` is the `after` of the following page, or null."""
        after = int(request.query.get("after", 0))
        limit = min(int(request.query.get("limit", _PAGE)), _MOST)
        ledger = self._world.ledger
        source = ledger.rows(after=after)
        if request.query.get("duplicates") in {"1", "true"}:
            source = (row for row in ledger.duplicates() if row.id > after)
        page = []
        for row in source:
            if all(
                request.query.get(name) in {None, getattr(row, name)}
                for name in ("to", "phone_number_id", "type", "wamid", "opaque")
            ):
                page.append(asdict(row))
            if len(page) >= limit:
                break
        more = page and page[-1]["id"] < len(ledger) and len(page) >= limit
        return _json({"messages": page, "next": page[-1]["id"] if more else None})

    async def reset(self, _: web.Request) -> web.Response:
        self._world.reset()
        return _json({"success": True})

    async def options(self, _: web.Request) -> web.Response:
        return _json(self._world.options.public())

    async def change_options(self, request: web.Request) -> web.Response:
        self._world.configure(await _object(request))
        return _json(self._world.options.public())

    async def customer_message(self, request: web.Request) -> web.Response:
        """Let a customer write: `from`, and either `text` or a whole `message`."""
        wish = await _object(request)
        number = wish.get("phone_number_id") or self._world.any_number()
        if not number:
            raise ValueError("phone_number_id: required, since none was used yet")
        sender = wish.get("from")
        by_id = isinstance(sender, str) and "." in sender
        customer = recipient_of({"recipient": sender} if by_id else {"to": sender})
        content = self._completed(wish)
        wamid = self._world.customer_writes(number, customer.id, content, wish.get("name"))
        return _json({"id": wamid, "from": customer.id, "phone_number_id": number})

    def _completed(self, wish: dict[str, Any]) -> dict[str, Any]:
        message = wish.get("message")
        if message is None:
            text = wish.get("text")
            if not isinstance(text, str) or not text:
                raise ValueError("text: required, unless a whole message is given")
            message = {"type": "text", "text": {"body": text}}
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise TypeError("message: must be an object with a type")
        part = message.get(message["type"])
        media = self._world.media.get(str(part.get("id"))) if isinstance(part, dict) else None
        if media is not None and isinstance(part, dict):
            known = {"mime_type": media.mime_type, "sha256": media.sha256, "id": media.id}
            message = {**message, message["type"]: {**known, **part}}
        return message

    async def templates(self, _: web.Request) -> web.Response:
        return _json([asdict(template) for template in self._world.templates.all()])

    async def declare_templates(self, request: web.Request) -> web.Response:
        declared = orjson.loads(await request.read())
        wanted = declared if isinstance(declared, list) else [declared]
        templates = [Template.from_json(one) for one in wanted]
        for template in templates:
            self._world.declare(template)
        return _json([asdict(template) for template in templates])

    async def add_media(self, request: web.Request) -> web.Response:
        """Keep the raw body as a file, for a customer to send."""
        media = self._world.media.add(request.content_type, await request.read())
        return _json({"id": media.id, "mime_type": media.mime_type, "sha256": media.sha256})

    async def webhook(self, request: web.Request) -> web.Response:
        """POST any body to the webhook address: `body` (JSON) or `raw` (the bytes as text)."""
        wish = await _object(request)
        world = self._world
        if world.options.webhook_url is None:
            raise ValueError("webhook_url: not set")
        escapes = world.options.webhook_escapes
        body = str(wish["raw"]).encode() if "raw" in wish else encode(wish["body"], escapes)
        world.courier.deliver(body, signed=bool(wish.get("signed", True)))
        return _json({"success": True, "bytes": len(body)})


def _guarded(handler: _Handler) -> _Handler:
    async def guarded(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Refusal as refusal:
            return _json({"error": refusal.error.details}, status=400)
        except (ValueError, TypeError, KeyError) as error:
            return _json({"error": str(error)}, status=400)

    return guarded


async def _object(request: web.Request) -> dict[str, Any]:
    document = orjson.loads(await request.read())
    if not isinstance(document, dict):
        raise TypeError("the body must be a JSON object")
    return document


def _json(document: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(document), content_type="application/json")
