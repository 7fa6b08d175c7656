"""`/dashboard`: who may see a page, how it is drawn, what becomes of errors, and the stream of changes."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler

from waemitter.errors import DatabaseUnreachable, NotFound
from waemitter.web.api.serving import Audit, read_body
from waemitter.web.dashboard import words
from waemitter.web.dashboard.pulse import Pulse, TooManyViewers
from waemitter.web.dashboard.recent import Recent
from waemitter.web.dashboard.session import (
    ROOT,
    Sessions,
    forget,
    keep,
    keep_token,
    require_own_form,
    token_of,
)
from waemitter.web.dashboard.visit import Answer, Done, Page, Route, Section, Visit, link
from waemitter.web.middleware import TRACE
from waemitter.web.problems import Problem
from waemitter.web.scopes import covers

HERE: Final = Path(__file__).parent
FILES: Final = {
    "style.css": "text/css",
    "htmx.min.js": "text/javascript",
    "live.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
PATIENCE: Final = 10.0
"""Seconds that a page may take before it says that the database is slow; an action gets three times as long."""
HEARTBEAT: Final = 15.0
"""Seconds after which a stream says something, so that a viewer who left is noticed."""
MAX_FORM: Final = 16 << 10

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SECTIONS: Final = (
    ("", "Overview"),
    ("/outbox", "Outbox"),
    ("/campaigns", "Campaigns"),
    ("/channels", "Channels"),
    ("/conversations", "Conversations"),
    ("/buffers", "Buffers"),
    ("/agents", "Agents"),
    ("/letters", "Dead letters"),
    ("/webhooks", "Webhooks"),
    ("/jobs", "Jobs"),
    ("/analytics", "Analytics"),
    ("/flags", "Switches"),
    ("/audit", "Audit"),
)


class Dashboard:
    def __init__(
        self,
        sections: Sequence[Section],
        *,
        sessions: Sessions,
        audit: Audit,
        pulse: Pulse,
        wall: Callable[[], datetime.datetime],
        read_only: bool = False,
        version: str = "",
    ) -> None:
        """`wall`: the time of day, with its zone. `read_only`: nobody may change anything here."""
        self._sections = sections
        self._sessions = sessions
        self._audit = audit
        self._pulse = pulse
        self._recent = Recent[Page](changed_at=lambda: pulse.told_at, clock=pulse.now)
        self._wall = wall
        self._read_only = read_only
        self._version = version
        self._files = {
            name: ((HERE / "static" / name).read_bytes(), kind) for name, kind in FILES.items()
        }
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {
            "root": ROOT,
            "link": link,
            "sections": SECTIONS,
            "percent": words.percent,
        }
        self._templates.filters |= {
            "masked": words.masked,
            "duration": words.duration,
            "exactly": words.exactly,
            "number": words.number,
            "cut": words.cut,
            "seconds": words.seconds,
        }

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get(f"{ROOT}/static/{{name}}", self._file)
        router.add_get(f"{ROOT}/login", self._html(self._login_page))
        router.add_post(f"{ROOT}/login", self._html(self._log_in))
        router.add_post(f"{ROOT}/logout", self._html(self._log_out))
        router.add_get(f"{ROOT}/events", self._html(self._events))
        router.add_get(f"{ROOT}/", self._html(self._home))
        for section in self._sections:
            for route in section.routes():
                router.add_route(route.method, ROOT + route.path, self._html(self._guarded(route)))

    def _guarded(self, route: Route) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            caller = await self._sessions.visitor(request)
            acts = covers(caller.scopes, "admin") and not self._read_only
            form: Mapping[str, str] = {}
            if route.method == "POST":
                form = await _form(request)
                require_own_form(request, form.get("token", ""))
                if not acts:
                    raise Problem(
                        HTTPStatus.FORBIDDEN,
                        "You may look, not act: log in with a key of the scope admin.",
                    )
            visit = Visit(request=request, caller=caller, acts=acts, form=form)
            async with asyncio.timeout(PATIENCE * (3 if form else 1)):
                answer = await self._answered(route, visit)
                if isinstance(answer, Done):
                    self._recent.forget()
                    await self._record(visit, answer)
            if isinstance(answer, Done):
                return see_other(link(answer.path, done=answer.action, count=answer.count))
            return self._drawn(request, answer, visit)

        return handle

    async def _answered(self, route: Route, visit: Visit) -> Answer:
        """What a page shows is read once for all who look at it, and drawn for each."""
        if route.method == "POST":
            return await route.handle(visit)
        asked = visit.request.query
        key = (
            visit.request.path,
            visit.acts,
            tuple(sorted((name, asked[name]) for name in asked if name not in {"done", "count"})),
        )

        async def read() -> Page:
            answer = await route.handle(visit)
            assert isinstance(answer, Page)  # noqa: S101 a GET changes nothing
            return answer

        return await self._recent.get(key, read)

    async def _record(self, visit: Visit, done: Done) -> None:
        self._pulse.notified(ROOT, own=True)
        await self._audit.record(
            action=f"dashboard.{done.action}",
            target=done.target,
            actor=visit.caller.actor,
            key=visit.caller.key,
            request_id=visit.request[TRACE].request_id,
        )

    def _html(self, handler: Handler) -> Handler:
        """Errors are pages here; who is not known is asked to log in."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except (DatabaseUnreachable, TimeoutError):
                return self._error(request, HTTPStatus.SERVICE_UNAVAILABLE,
                                   "The database does not answer, or is slow. Messages wait in it; nothing is lost. "
                                   "This page tries again by itself.")  # fmt: skip
            except NotFound as error:
                return self._error(
                    request, HTTPStatus.NOT_FOUND, f"{str(error)[:1].upper()}{str(error)[1:]}."
                )
            except Problem as refused:
                if refused.status == HTTPStatus.UNAUTHORIZED and request.path != f"{ROOT}/login":
                    return see_other(link(f"{ROOT}/login", next=request.path_qs))
                return self._error(request, refused.status, refused.detail)

        return handle

    def _error(self, request: web.Request, status: HTTPStatus, detail: str) -> web.Response:
        return self._drawn(
            request, Page("error.html", {"status": status, "detail": detail}, status)
        )

    def _drawn(self, request: web.Request, page: Page, visit: Visit | None = None) -> web.Response:
        token, now = token_of(request), self._wall()
        context: dict[str, Any] = {
            "acts": visit is not None and visit.acts,
            "caller": visit and visit.caller,
            "path": request.path.removeprefix(ROOT).rstrip("/"),
            "here": request.path_qs,
            "token": token,
            "now": now,
            "version": self._version,
            "done": request.query.get("done"),
            "count": request.query.get("count"),
            "when": lambda at: words.when(at, now),
            "read_only": self._read_only,
            **page.context,
        }
        response = web.Response(
            status=page.status,
            text=self._templates.get_template(page.template).render(context),
            content_type="text/html",
            headers=HEADERS,
        )
        keep_token(request, response, token)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise Problem(HTTPStatus.NOT_FOUND, "There is no such file.")
        body, kind = found
        headers = {"Cache-Control": "public, max-age=3600"}
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    async def _home(self, _: web.Request) -> web.StreamResponse:
        return see_other(ROOT)

    async def _login_page(self, request: web.Request) -> web.StreamResponse:
        return self._drawn(request, Page("login.html", {"next": _own(request.query.get("next"))}))

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        form = await _form(request)
        require_own_form(request, form.get("token", ""))
        goal, key = _own(form.get("next")), form.get("key", "").strip()
        try:
            await self._sessions.log_in(request, key)
        except Problem as refused:
            page = Page("login.html", {"next": goal, "refused": refused.detail}, refused.status)
            return self._drawn(request, page)
        response = see_other(goal)
        keep(request, response, key)
        return response

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        form = await _form(request)
        require_own_form(request, form.get("token", ""))
        response = see_other(f"{ROOT}/login")
        forget(response)
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: `changed`, without saying what. The page asks again for what it shows."""
        await self._sessions.visitor(request)
        response = web.StreamResponse(
            headers={**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        try:
            with self._pulse.viewer() as changed:
                await response.prepare(request)
                await response.write(b"retry: 2000\n\n")
                while not self._pulse.closed:
                    beat = await _within(HEARTBEAT, changed)
                    changed.clear()
                    await response.write(b"event: changed\ndata: \n\n" if beat else b": alive\n\n")
        except TooManyViewers:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "Too many pages are open.") from None
        except ConnectionError:
            pass  # the viewer left
        return response


def see_other(path: str) -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, "Location": path})


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _form(request: web.Request) -> Mapping[str, str]:
    if request.content_type != "application/x-www-form-urlencoded":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send a form.")
    raw = await read_body(request, limit=MAX_FORM, seconds=PATIENCE)
    try:
        return dict(parse_qsl(raw.decode(), keep_blank_values=True, strict_parsing=bool(raw)))
    except ValueError:  # a UnicodeDecodeError too
        raise Problem(HTTPStatus.BAD_REQUEST, "This form cannot be read.") from None


def _own(path: str | None) -> str:
    """Where to go after the login: nowhere but to a page of ours."""
    plain = path is not None and path.startswith(ROOT) and "\\" not in path
    return path if plain and path else ROOT
