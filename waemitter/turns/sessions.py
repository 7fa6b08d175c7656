"""What becomes of a session in a turn: the route first, then the handler, who has the last word. Pure."""

from __future__ import annotations

from waemitter.turns.routing import Decision
from waemitter.turns.turn import Session


def before(session: Session, decision: Decision) -> Session:
    """The session as the handler gets it."""
    return Session() if decision.ends_session else session


def after(session: Session, decision: Decision, said: Session | None) -> Session | None:
    """What is to be written: what the handler `said`, else what its route asks for; None = as it was."""
    if said is not None:
        return said
    begun = before(session, decision)
    if decision.service is not None:
        begun = Session(decision.service, begun.context)
    return None if begun == session else begun
