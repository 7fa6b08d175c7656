"""Which route a turn takes, and why: pure, and the same on every daemon.

    1. a route that ends the session (the words for menu, home …), when a message has its words
    2. the route of the session's active service
    3. the first route, from the top of the file, whose conditions hold
    4. the first fallback that is for this contact

STOP and its kin never get here: the inbox has heard them. What Meta tells of something else than messages is a turn of its own:
only routes that ask for its field are for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from typing_extensions import override

from waemitter.inbox.windows import OFF, Window
from waemitter.turns.conditions import Conditions, Person, field_of, person_of, share
from waemitter.turns.routing import Decision, Facts, Flags, Router, Supersede
from waemitter.turns.turn import Handler, Session

AGENT: Final = "agent"


@dataclass(frozen=True, slots=True)
class Variant:
    """One of several ways in which a route answers; a contact always gets the same. `handler`: its kind."""

    name: str
    handler: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """See docs/routes.md. `buffer` None: the installation's own window, or none at all for a route that ends the session."""

    name: str
    variants: Sequence[Variant]
    conditions: Conditions = field(default_factory=Conditions)
    fallback: bool = False
    ends_session: bool = False
    service: str | None = None
    supersede: Supersede = "keep"
    buffer: Window | None = None

    def variant(self, person: Person) -> Variant:
        """Choose by weight, from the contact alone."""
        place = share(f"{self.name}\0variants", person) / 100 * sum(v.weight for v in self.variants)
        for each in self.variants:
            place -= each.weight
            if place < 0:
                return each
        return self.variants[-1]


class Choice(NamedTuple):
    """The route that a turn takes, the way it is answered, and the reason in a sentence."""

    route: Route
    variant: Variant
    reason: str


def choose(
    routes: Sequence[Route],
    *,
    messages: Sequence[Mapping[str, Any]],
    person: Person,
    service: str | None,
    agents: bool = True,
) -> Choice | None:
    """Find the route; `service`: the session's active one. None: no route is for this turn.

    Without `agents` a route that an agent would answer is passed over.
    """
    for route, reason in _fitting(routes, messages, person, service):
        variant = route.variant(person)
        if agents or variant.handler != AGENT:
            return Choice(route, variant, f"{reason[0].upper()}{reason[1:]}.")
    return None


def _fitting(
    routes: Sequence[Route],
    messages: Sequence[Mapping[str, Any]],
    person: Person,
    service: str | None,
) -> Iterator[tuple[Route, str]]:
    """Every route that fits, the best first, with its reason."""
    admitted = _admitted(routes, messages, person)
    for route, who in admitted:
        if route.ends_session and route.conditions.words and (what := _matched(route, messages)):
            yield route, _sentence(what, who, "which ends any session")
    passed = ""
    if service is not None and not _told(messages):
        serving = [(route, who) for route, who in admitted if route.service == service]
        for route, who in serving:
            yield route, _sentence(f"the session is with the service '{service}'", who)
        if not serving:
            passed = f"no route has the session's service '{service}'"
    for route, who in admitted:
        if not route.fallback and (what := _matched(route, messages)) is not None:
            yield route, _sentence(passed, what, who)
    for route, who in admitted:
        if route.fallback:
            yield route, _sentence(passed, who, "no other route matches: it is the fallback")


def _admitted(
    routes: Sequence[Route], messages: Sequence[Mapping[str, Any]], person: Person
) -> list[tuple[Route, str]]:
    """The routes that are for this contact; of a change, those alone that ask for fields."""
    told = _told(messages)
    return [
        (route, who)
        for route in routes
        if not told or route.conditions.fields
        if (who := route.conditions.admit(route.name, person)) is not None
    ]


def _told(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether Meta tells of something, and nobody has written."""
    return any(field_of(message) is not None for message in messages)


def _matched(route: Route, messages: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the first message that does matches; empty for a route that asks nothing of messages."""
    if not route.conditions.about_messages:
        return ""
    reasons = (route.conditions.match(message) for message in messages)
    return next((reason for reason in reasons if reason is not None), None)


def _sentence(*parts: str) -> str:
    return ", ".join(part for part in parts if part) or "it asks nothing of a turn"


class Routes(Router):
    """The routes of this installation, with whoever answers for them."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        handlers: Mapping[tuple[str, str], Handler],
        window: Window,
    ) -> None:
        """`handlers`: by the names of the route and of the variant; `window`: for routes without one of their own."""
        self._routes = routes
        self.fields: Final = frozenset[str]().union(*(each.conditions.fields for each in routes))
        self._handlers = handlers
        self._window = window

    @override
    def decide(self, facts: Facts, session: Session, flags: Flags) -> Decision | None:
        choice = choose(
            self._routes,
            messages=facts.messages,
            person=person_of(facts.contact),
            service=session.active_service,
            agents=flags.enhanced_processing,
        )
        if choice is None:
            return None
        route, variant, reason = choice
        return Decision(
            route=route.name,
            reason=reason,
            handler=self._handlers[route.name, variant.name],
            buffer=self._window_of(route),
            ends_session=route.ends_session,
            service=route.service,
            supersede=route.supersede if flags.enhanced_processing else "keep",
        )

    def _window_of(self, route: Route) -> Window:
        if route.buffer is not None:
            return route.buffer
        return OFF if route.ends_session else self._window
