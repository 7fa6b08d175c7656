"""The Graph API's routes: messages, media, and what a daemon asks about its number."""

from __future__ import annotations

import asyncio
from time import monotonic, time
from typing import Any, Final

from aiohttp import web

from waemitter.simulator.errors import (
    NO_TOKEN,
    WRONG_TOKEN,
    GraphError,
    unknown_object,
    unknown_path,
)
from waemitter.simulator.faults import fault_at
from waemitter.simulator.ids import display_phone_number
from waemitter.simulator.sends import Sends
from waemitter.simulator.shapes import Refusal, bad_parameter
from waemitter.simulator.wire import Wire
from waemitter.simulator.world import World

_PREFIXES: Final = (r"/{version:v\d+\.\d+}", "")
_HIGH_THROUGHPUT = 1000
_NOT_HEALTHY: Final = {"error_code": 141000, "error_description": "Set so in the simulator."}


class Graph:
    """Handlers over a world; every answer is one that Meta could give."""

    def __init__(self, world: World, wire: Wire) -> None:
        self._world = world
        self._wire = wire
        self._sends = Sends(world)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        for prefix in _PREFIXES:
            router.add_post(prefix + "/{number}/messages", self.messages)
            router.add_post(prefix + "/{number}/marketing_messages", self.messages)
            router.add_post(prefix + "/{number}/media", self.upload)
            router.add_get(prefix + "/{node}", self.node)
            router.add_delete(prefix + "/{node}", self.delete_media)
        router.add_get("/_media/{word}", self.download)
        router.add_route("*", "/{path:.*}", self.nowhere)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        world, number = self._world, request.match_info["number"]
        shares = world.fault_shares
        fault = fault_at(world.random.random(), shares) if shares else None
        if fault is not None and fault.spares_the_platform:
            world.ledger.arrived(number, monotonic(), world.options.messages_per_second)
            return await self._wire.break_off(request, fault)
        refused = self._stranger(request) or self._unknown(number, "post")
        if refused is not None:
            answer = self._sends.refuse(refused)
        else:
            marketing = request.path.endswith("/marketing_messages")
            answer = self._sends.receive(number, raw, marketing=marketing)
        await self._dawdle()
        if fault is not None:
            return await self._wire.break_off(request, fault, answer)
        return self._wire.reply(request, answer)

    async def _dawdle(self) -> None:
        options = self._world.options
        if options.latency or options.jitter:
            await asyncio.sleep(options.latency + options.jitter * self._world.random.random())

    def _stranger(self, request: web.Request) -> GraphError | None:
        """Return the error for a request whose token is missing or not ours."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        token = token or request.query.get("access_token", "")
        if not token:
            return NO_TOKEN
        wanted = self._world.options.access_token
        return None if wanted is None or token == wanted else WRONG_TOKEN

    def _unknown(self, number: str, verb: str) -> GraphError | None:
        return None if self._world.knows(number) else unknown_object(number, verb)

    def _refuse(self, request: web.Request, error: GraphError) -> web.Response:
        return self._wire.reply(request, self._sends.refuse(error))

    async def upload(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        refused = self._stranger(request) or self._unknown(number, "post")
        if refused is not None:
            return self._refuse(request, refused)
        try:
            media = self._world.media.add(*await _uploaded(request))
        except Refusal as refusal:
            return self._refuse(request, refusal.error)
        return self._wire.success(request, {"id": media.id})

    async def node(self, request: web.Request) -> web.Response:
        """`GET /{id}`: a media file's description, or a number's fields."""
        refused = self._stranger(request)
        if refused is not None:
            return self._refuse(request, refused)
        node = request.match_info["node"]
        if node == "debug_token":
            return self._wire.success(request, self._token())
        media = self._world.media.get(node)
        if media is not None:
            word = self._world.media.ticket(
                media, now=monotonic(), seconds=self._world.options.media_url_seconds
            )
            described = {
                "url": f"{request.scheme}://{request.host}/_media/{word}",
                "mime_type": media.mime_type,
                "sha256": media.sha256,
                "file_size": len(media.content),
                "id": media.id,
                "messaging_product": "whatsapp",
            }
            return self._wire.success(request, described)
        unknown = None if node == self._world.options.waba_id else self._unknown(node, "get")
        if unknown is not None:
            return self._refuse(request, unknown)
        return self._wire.success(request, self._described(node, request.query.get("fields")))

    def _described(self, node: str, fields: str | None) -> dict[str, Any]:
        limit = self._world.options.messages_per_second
        high = not limit or limit >= _HIGH_THROUGHPUT
        known: dict[str, Any] = {
            "verified_name": "Simulated Business",
            "display_phone_number": display_phone_number(node),
            "quality_rating": "GREEN",
            "code_verification_status": "VERIFIED",
            "platform_type": "CLOUD_API",
            "status": "CONNECTED",
            "throughput": {"level": "HIGH" if high else "STANDARD"},
            "health_status": self._health(node),
        }
        by_default = ("verified_name", "display_phone_number", "quality_rating")
        wanted = fields.split(",") if fields else by_default
        return {name: known[name] for name in wanted if name in known} | {"id": node}

    def _token(self) -> dict[str, Any]:
        """What Meta tells of a token; https://developers.facebook.com/docs/graph-api/reference/debug_token."""
        seconds = self._world.options.token_seconds
        expires = int(time() + seconds) if seconds else 0
        return {"data": {"type": "SYSTEM_USER", "is_valid": True, "expires_at": expires}}

    def _health(self, node: str) -> dict[str, Any]:
        health = self._world.options.health
        number: dict[str, Any] = {
            "entity_type": "PHONE_NUMBER",
            "id": node,
            "can_send_message": health,
        }
        if health != "AVAILABLE":
            number["errors"] = [_NOT_HEALTHY]
        waba = {
            "entity_type": "WABA",
            "id": self._world.options.waba_id,
            "can_send_message": "AVAILABLE",
        }
        return {"can_send_message": health, "entities": [number, waba]}

    async def delete_media(self, request: web.Request) -> web.Response:
        refused = self._stranger(request)
        node = request.match_info["node"]
        if refused is None and not self._world.media.remove(node):
            refused = unknown_object(node, "delete")
        if refused is not None:
            return self._refuse(request, refused)
        return self._wire.success(request, {"success": True})

    async def download(self, request: web.Request) -> web.Response:
        """Serve the bytes behind a media address to who has the token, while it lives."""
        refused = self._stranger(request)
        if refused is not None:
            return self._refuse(request, refused)
        media = self._world.media.redeem(request.match_info["word"], now=monotonic())
        if media is None:
            return web.Response(status=404)
        return web.Response(body=media.content, content_type=media.mime_type)

    async def nowhere(self, request: web.Request) -> web.Response:
        return self._refuse(request, unknown_path(request.path))


async def _uploaded(request: web.Request) -> tuple[str, bytes]:
    if not request.content_type.startswith("multipart/"):
        raise bad_parameter("The parameter file is required.")
    form = await request.post()
    if form.get("messaging_product") != "whatsapp":
        raise bad_parameter("The parameter messaging_product is required.")
    file = form.get("file")
    if not isinstance(file, web.FileField):
        raise bad_parameter("The parameter file is required.")
    declared = form.get("type")
    mime_type = declared if isinstance(declared, str) and declared else file.content_type
    return mime_type, file.file.read()
