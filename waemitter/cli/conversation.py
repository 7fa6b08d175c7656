"""`waemitter conversation …`: who has one, what was said, take it over, hand it back, answer it."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import uuid4

import typer

from waemitter.cli.context import (
    AsJson,
    Config,
    explained,
    loaded,
    print_json,
    print_rows,
    with_pool,
)
from waemitter.cli.picking import Limit, OfChannel
from waemitter.inbox.conversations.store import Chosen, ConversationStore
from waemitter.settings.durations import parse_duration
from waemitter.turns.replies.store import Replied, ReplyStore

app: Final = typer.Typer(no_args_is_help=True, help="Conversations, and whose turn it is in them.")

COLUMNS: Final = ("id", "channel", "status", "contact", "last_inbound_at", "takeover_until")
SAID: Final = ("at", "direction", "message_type", "status", "text")
Id = Annotated[int, typer.Argument(metavar="ID", min=1)]
Reason = Annotated[str, typer.Option(help="Why, for whoever asks.")]


class Status(StrEnum):
    IDLE = "idle"
    BUFFERING = "buffering"
    PROCESSING = "processing"
    HUMAN = "human"
    ERROR = "error"


@app.command("list")
def list_conversations(
    *,
    status: Annotated[Status | None, typer.Option(help="Only those of this status.")] = None,
    channel: OfChannel = None,
    contact: Annotated[
        str | None, typer.Option(help="Only with this phone number or user id.")
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The newest first."""
    chosen = Chosen(status, channel, contact)
    rows = with_pool(config, lambda pool: ConversationStore(pool).list(chosen, limit=limit))
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS)


@app.command()
def show(conversation_id: Id, *, as_json: AsJson = False, config: Config = None) -> None:
    """One conversation, with its session and what was said last."""
    found = with_pool(config, lambda pool: ConversationStore(pool).get(conversation_id))
    if found is None:
        raise _none(conversation_id)
    if as_json:
        print_json(found)
        return
    parts = ("messages", "turns", "transitions")
    facts = {name: found[name] for name in found if name not in parts and found[name] is not None}
    print_rows([{"column": name, "value": facts[name]} for name in facts], ("column", "value"))
    said = [each | {"text": _text(each)} for each in reversed(found["messages"])]
    print_rows(said, SAID)


@app.command()
def pause(
    conversation_id: Id,
    *,
    duration: Annotated[
        str | None,
        typer.Option("--for", help="For so long, as in 2h; else until it is resumed."),
    ] = None,
    reason: Reason = "by the command line",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """A person answers from now on (takeover); the daemon is silent."""
    takeover = _duration(duration)
    known, until = with_pool(
        config,
        lambda pool: ConversationStore(pool).take_over(
            conversation_id, takeover=takeover, reason=reason
        ),
    )
    if not known:
        raise _none(conversation_id)
    if as_json:
        print_json({"id": conversation_id, "paused": True, "takeover_until": until})
    else:
        ends = "until it is resumed" if until is None else f"until {until.astimezone():%F %T}"
        typer.echo(f"conversation {conversation_id} is a person's {ends}")


@app.command()
def resume(
    conversation_id: Id,
    *,
    reason: Reason = "by the command line",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """The daemon answers again."""
    resumed = with_pool(
        config, lambda pool: ConversationStore(pool).hand_back(conversation_id, reason=reason)
    )
    _tell(conversation_id, "resumed", changed=resumed, why="no person has it", as_json=as_json)


@app.command()
def unlock(
    conversation_id: Id,
    *,
    reason: Reason = "by the command line",
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Take the lock from whoever has it; a turn in progress begins anew, and is answered once all the same."""
    unlocked = with_pool(
        config, lambda pool: ConversationStore(pool).unlock(conversation_id, reason=reason)
    )
    _tell(conversation_id, "unlocked", changed=unlocked, why="nobody has it", as_json=as_json)


@app.command()
def reply(
    conversation_id: Id,
    *,
    text: Annotated[str, typer.Option("--text", help="What to say.")],
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Sent once, however often it is asked.")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Answer as a person, who has the conversation for `inbox.takeover` from then on."""
    if not text.strip():
        raise typer.BadParameter("says nothing", param_hint="--text")
    with explained():
        settings = loaded(config).settings

    async def send(pool: Any) -> Replied:
        replies = ReplyStore(
            pool,
            session_ttl=timedelta(seconds=settings.sessions.ttl),
            takeover=timedelta(seconds=settings.inbox.takeover),
        )
        return await replies.reply(
            conversation_id,
            messages=[{"type": "text", "text": {"body": text}}],
            session=None,
            handover=False,
            idempotency_key=key,
            correlation_id=uuid4().hex,
            human=True,
        )

    result, message_ids = with_pool(config, send)
    if result == "missing":
        raise _none(conversation_id)
    if as_json:
        print_json({"id": conversation_id, "result": result, "message_ids": message_ids})
    else:
        typer.echo(" ".join(map(str, message_ids)))


def _duration(text: str | None) -> timedelta | None:
    try:
        return timedelta(seconds=parse_duration(text)) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--for") from None


def _text(message: dict[str, Any]) -> str | None:
    """The words of a text message; of others nothing, `--json` shows them."""
    text = message["payload"].get("text")
    return text.get("body") if isinstance(text, dict) else None


def _none(conversation_id: int) -> typer.Exit:
    typer.echo(f"waemitter: there is no conversation {conversation_id}", err=True)
    return typer.Exit(1)


def _tell(conversation_id: int, word: str, *, changed: bool, why: str, as_json: bool) -> None:
    """Exit code 1 when nothing changed."""
    if as_json:
        print_json({"id": conversation_id, word: changed})
    elif changed:
        typer.echo(f"conversation {conversation_id} is {word}")
    if not changed:
        typer.echo(f"waemitter: no effect: there is no such conversation, or {why}", err=True)
        raise typer.Exit(1)
