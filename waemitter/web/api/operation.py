"""One operation of the API: what it is called by, what it needs, what it takes and gives."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Generic, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel

from waemitter.web.api.model import Nothing
from waemitter.web.auth import Caller
from waemitter.web.scopes import Scope

MAX_BODY: Final = 1024 * 1024
"""Bytes of a JSON body, unless an operation says otherwise."""
TIME: Final = 30.0
"""Seconds for an operation, once its body is there, unless it says otherwise."""

P = TypeVar("P", bound=BaseModel)
B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[P, B]):
    """A request that was admitted and understood; `request` is for bodies that are no JSON."""

    params: P
    body: B
    caller: Caller
    correlation_id: str
    request: web.Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    document: BaseModel
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[P, B]):
    """A route with its documentation, from which the handler and the OpenAPI description are made.

    `path` names parameters in braces; each is a field of `params`, whose others come from the query,
    or a header. `scope` None asks for any key. `answers`: the model of each good status. `refusals`:
    further statuses than those that every operation of its kind may answer. `uploads`: the media
    types of a body that `handle` reads itself. `hook`: served beside the webhooks when everything
    else has a port of its own. `audited`: what it did is recorded, with whom. `time` in seconds.
    """

    name: str
    method: Literal["GET", "POST", "DELETE"]
    path: str
    summary: str
    scope: Scope | None
    params: type[P]
    body: type[B]
    handle: Callable[[Call[P, B]], Awaitable[Answer]]
    answers: Mapping[HTTPStatus, type[BaseModel]]
    refusals: tuple[HTTPStatus, ...] = ()
    aliases: tuple[str, ...] = ()
    uploads: tuple[str, ...] = ()
    hook: bool = False
    audited: bool = False
    max_body: int = MAX_BODY
    time: float = TIME

    @property
    def takes_json(self) -> bool:
        return self.body is not Nothing

    @property
    def changes(self) -> bool:
        """Whether it may change something. To ring the bell has done what a sweep does anyway."""
        return self.method != "GET" and self.scope != "trigger"

    @property
    def in_path(self) -> frozenset[str]:
        """The parameters that the path names."""
        return frozenset(re.findall(r"{(\w+)}", self.path))
