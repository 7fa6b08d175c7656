"""What a page is given, and what it may answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlencode

from aiohttp import web

from waemitter.web.auth import Caller
from waemitter.web.problems import Problem

DIGITS: Final = 18
"""Whatever has no more of them is a bigint."""
LONGEST_TEXT: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request of somebody who may look. `form` is what was posted; `acts`: he may change things too."""

    request: web.Request
    caller: Caller
    acts: bool
    form: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """A parameter of the query or the form, None when it is empty. Raises Problem with 400."""
        given = (self.form.get(name) or self.request.query.get(name) or "").strip()
        if "\0" in given or len(given) > LONGEST_TEXT:
            raise Problem(HTTPStatus.BAD_REQUEST, f"“{name}” is no text to look for.")
        return given or None

    def whole(self, name: str) -> int | None:
        """Raises Problem with 400 for what is no number of a row."""
        given = self.text(name)
        if given is None:
            return None
        if not (given.isascii() and given.isdigit() and len(given) <= DIGITS):
            raise Problem(HTTPStatus.BAD_REQUEST, f"“{name}” must be a whole number.")
        return int(given)

    @property
    def id(self) -> int:
        return int(self.request.match_info["id"])


@dataclass(frozen=True, slots=True)
class Page:
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    status: HTTPStatus = HTTPStatus.OK


@dataclass(frozen=True, slots=True)
class Done:
    """An action took effect `count` times; the browser goes to `path`. `target` is for the audit."""

    path: str
    action: str
    count: int
    target: str | None = None


Answer: TypeAlias = Page | Done
Handle: TypeAlias = Callable[[Visit], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """A GET is for all who may read, a POST for those who may act; it is audited."""

    method: str
    path: str
    handle: Handle


class Section(Protocol):
    def routes(self) -> Sequence[Route]: ...


def link(path: str, **query: object) -> str:
    """A path with the parameters that have a value, after those that it has."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return path + ("&" if "?" in path else "?") + urlencode(given) if given else path
