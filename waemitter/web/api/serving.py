"""From a request to an operation and back: admit, read, validate, call, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from waemitter.errors import DatabaseUnreachable
from waemitter.web.api.model import Nothing
from waemitter.web.api.operation import Call, Operation
from waemitter.web.auth import Authenticator
from waemitter.web.middleware import TRACE
from waemitter.web.problems import Fault, Problem, unprocessable

READ_TIME: Final = 10.0
"""Seconds that a client has for a JSON body."""

_UNCACHED: Final = {"Cache-Control": "no-store"}
_WORDS: Final = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "list_type": "must be an array",
    "model_type": "must be an object",
}


class Audit(Protocol):
    async def record(
        self, *, action: str, target: str | None, actor: str | None, key: str, request_id: str
    ) -> None: ...


class Api:
    """Handlers for operations; every one of them asks who calls before anything else."""

    def __init__(
        self,
        operations: Sequence[Operation[Any, Any]],
        *,
        auth: Authenticator,
        audit: Audit,
        read_only: bool = False,
    ) -> None:
        """`read_only`: whatever key is given, nothing is changed; the bell may be rung."""
        self._operations = tuple(operations)
        self._read_only = read_only
        self._auth = auth
        self._audit = audit

    def add_routes(
        self, router: web.UrlDispatcher, *, prefixes: Iterable[str], hooks: bool
    ) -> None:
        """Add those that are served beside webhooks, or all the others."""
        for operation in self._operations:
            if operation.hook is not hooks:
                continue
            handler = self._handler(operation)
            for prefix in prefixes:
                for path in (operation.path, *operation.aliases):
                    router.add_route(operation.method, prefix + _pattern(operation, path), handler)

    def _handler(self, operation: Operation[Any, Any]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            caller = await self._auth.admit(request, operation.scope)
            if self._read_only and operation.changes:
                raise Problem(
                    HTTPStatus.FORBIDDEN,
                    "Nothing is changed over HTTP here: WAEMITTER_HTTP__READ_ONLY is set.",
                )
            params = _validated(operation.params, _parameters(request, operation))
            body = await _body(request, operation)
            call = Call(
                params=params,
                body=body,
                caller=caller,
                correlation_id=request[TRACE].correlation_id,
                request=request,
            )
            return await self._answered(operation, call)

        return handle

    async def _answered(
        self, operation: Operation[Any, Any], call: Call[Any, Any]
    ) -> web.StreamResponse:
        try:
            async with asyncio.timeout(operation.time):
                answer = await operation.handle(call)
                if operation.audited:
                    await self._audit.record(
                        action=operation.name,
                        target=call.request.match_info.get("id")
                        or call.request.match_info.get("name"),
                        actor=call.caller.actor,
                        key=call.caller.key,
                        request_id=call.request[TRACE].request_id,
                    )
        except DatabaseUnreachable:
            raise _later("The database does not answer; try again.") from None
        except TimeoutError:
            raise _later("This takes too long; try again, or ask for less.") from None
        return web.Response(
            status=answer.status.value,
            body=answer.document.model_dump_json(by_alias=True).encode(),
            content_type="application/json",
            headers={**_UNCACHED, **answer.headers},
        )


def _pattern(operation: Operation[Any, Any], path: str) -> str:
    """The router's path: a parameter that is a number matches nothing else, so `/send` is no id."""
    for name in operation.in_path:
        if operation.params.model_fields[name].annotation is int:
            path = path.replace(f"{{{name}}}", f"{{{name}:[0-9]+}}")
    return path


def _later(detail: str) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "5"})


def _parameters(request: web.Request, operation: Operation[Any, Any]) -> dict[str, str]:
    """What path, query and headers say; a parameter without a value counts as left out."""
    found = {name: value for name, value in request.query.items() if value}
    found |= request.match_info
    for name, field in operation.params.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("in") == "header":
            found.pop(field.alias or name, None)
            if field.alias in request.headers:
                found[field.alias] = request.headers[field.alias]
    return found


async def _body(request: web.Request, operation: Operation[Any, Any]) -> BaseModel:
    if not operation.takes_json:
        return Nothing()
    if request.content_type != "application/json":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send JSON, with Content-Type: application/json."
        )
    raw = await read_body(request, limit=operation.max_body, seconds=READ_TIME)
    try:
        document = orjson.loads(raw)  # stricter than pydantic: no NaN, no lone surrogates
    except orjson.JSONDecodeError as error:
        raise Problem(HTTPStatus.BAD_REQUEST, f"The body is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise unprocessable([Fault("body", "must be a JSON object")])
    try:
        body: BaseModel = operation.body.model_validate_json(raw)
    except ValidationError as error:
        raise unprocessable(list(_faults(error))) from None
    return body


async def read_body(request: web.Request, *, limit: int, seconds: float) -> bytes:
    """Read a body of at most `limit` bytes; raises Problem with 413, 408 or 400."""
    too_large = Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"At most {limit} bytes are accepted.",
        close=True,
    )
    if (request.content_length or 0) > limit:
        raise too_large
    read = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                read += chunk
                if len(read) > limit:
                    raise too_large
    except TimeoutError:
        raise Problem(
            HTTPStatus.REQUEST_TIMEOUT,
            f"The body took longer than {seconds:g} s.",
            close=True,
        ) from None
    except (ConnectionError, web.RequestPayloadError):
        raise Problem(HTTPStatus.BAD_REQUEST, "The body is incomplete.") from None
    return bytes(read)


def _validated(model: type[BaseModel], given: dict[str, str]) -> BaseModel:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise unprocessable(list(_faults(error))) from None


def _faults(error: ValidationError) -> Iterator[Fault]:
    for details in error.errors(include_url=False, include_input=False):
        yield Fault(_path(details["loc"]), _reason(details))


def _path(location: tuple[int | str, ...]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".") or "body"


def _reason(details: ErrorDetails) -> str:
    word = _WORDS.get(details["type"])
    return word or details["msg"][:1].lower() + details["msg"][1:]
