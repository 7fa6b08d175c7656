"""`waemitter send`: one message from the command line, followed to its end if asked."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from waemitter.cli.context import Config, print_json, with_store
from waemitter.errors import UsageError
from waemitter.outbox.message import IN_QUEUE
from waemitter.outbox.store import OutboxStore
from waemitter.whatsapp.requests import complaints

POLL: Final = 0.2  # seconds: a person is waiting, and the daemon is another process
NEVER_SENT: Final = frozenset({"failed", "cancelled", "expired", "suppressed"})
ENDS: Final = NEVER_SENT | {"delivered", "read"}


To = Annotated[str, typer.Argument(help="The recipient: +14155550123, or a user id.")]
TextBody = Annotated[str | None, typer.Option("--text", help="A text message.")]
Template = Annotated[str | None, typer.Option("--template", help="A template, by its name.")]
Lang = Annotated[str, typer.Option("--lang", help="The template's language.")]
Params = Annotated[list[str] | None, typer.Option("--param", help="Its parameters, in order.")]
File = Annotated[
    Path | None,
    typer.Option("--json", help='A payload as in the Cloud API, {"image": {…}}; - is stdin.'),
]
Channel = Annotated[str, typer.Option("--channel", help="The channel to send from.")]
Key = Annotated[
    str | None, typer.Option("--idempotency-key", help="Sent once, however often this is run.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Follow it to its final status.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Most seconds to wait.")]


def send(  # noqa: PLR0913 an option each
    to: To,
    *,
    text: TextBody = None,
    template: Template = None,
    lang: Lang = "en_US",
    param: Params = None,
    file: File = None,
    channel: Channel = "default",
    idempotency_key: Key = None,
    wait: Wait = False,
    timeout: Timeout = 60.0,
    config: Config = None,
) -> None:
    """Put one message into the outbox; a running daemon sends it. Prints its id as JSON."""
    try:
        message_type, payload = _content(text, template, lang, param or [], file)
    except UsageError as error:
        typer.echo(f"waemitter: {error}", err=True)
        raise typer.Exit(2) from None
    if found := complaints(to, message_type, payload):
        for problem in found:
            typer.echo(f"waemitter: {problem}", err=True)
        raise typer.Exit(2)

    async def work(store: OutboxStore) -> dict[str, Any]:
        message_id = await store.enqueue(
            recipient=to,
            message_type=message_type,
            payload=json.dumps(payload),
            channel=channel,
            idempotency_key=idempotency_key,
        )
        if not wait:
            return {"id": message_id, "status": "queued"}
        return await _follow(store, message_id, timeout)

    outcome = with_store(config, work)
    print_json(outcome)
    _end(outcome, timeout, waited=wait)


def _end(outcome: Mapping[str, Any], timeout: float, *, waited: bool) -> None:
    """Exit with 1 for a message that was not sent, as far as anybody waited to know."""
    if outcome["status"] in NEVER_SENT:
        raise typer.Exit(1)
    if waited and outcome["status"] in IN_QUEUE:
        typer.echo(
            f"waemitter: still {outcome['status']} after {timeout:g} s; is a daemon running? "
            f"`waemitter outbox show {outcome['id']}` tells more",
            err=True,
        )
        raise typer.Exit(1)


def _content(
    text: str | None, template: str | None, lang: str, param: list[str], file: Path | None
) -> tuple[str, dict[str, Any]]:
    if sum(given is not None for given in (text, template, file)) != 1:
        raise UsageError("say what to send: one of --text, --template or --json")
    if text is not None:
        return "text", {"text": {"body": text}}
    if template is not None:
        parameters = [{"type": "text", "text": value} for value in param]
        components = [{"type": "body", "parameters": parameters}] if parameters else []
        return "template", {
            "template": {"name": template, "language": {"code": lang}, "components": components}
        }
    assert file is not None  # noqa: S101 counted above
    return payload_of(file)


def payload_of(file: Path) -> tuple[str, dict[str, Any]]:
    """Read a message type and its payload from a file, or `-`. Raises UsageError."""
    try:
        content = sys.stdin.read() if str(file) == "-" else file.read_text()
        payload = json.loads(content)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}") from None
    if not isinstance(payload, dict):
        raise UsageError(f'{file}: a payload is a JSON object, like {{"text": {{"body": "…"}}}}')
    for ours in ("messaging_product", "to", "recipient"):
        payload.pop(ours, None)  # a whole request, as copied from Meta's documentation
    kinds = [key for key, value in payload.items() if isinstance(value, dict | list)]
    kind = payload.pop("type", None) or next((key for key in kinds if key != "context"), None)
    if not isinstance(kind, str):
        raise UsageError(f"{file}: no message type: expected a key like text, image or template")
    return kind, payload


async def _follow(store: OutboxStore, message_id: int, timeout: float) -> dict[str, Any]:
    """Until delivered or ended; sent is as far as it goes where no status webhooks come."""
    outcome: dict[str, Any] = {"id": message_id, "status": "queued"}
    try:
        async with asyncio.timeout(timeout):
            while outcome["status"] not in ENDS and not outcome.get("dry_run"):
                found = await store.get(message_id)
                if found is not None:
                    names = ("id", "status", "whatsapp_message_id", "error_code", "error_message")
                    outcome = {name: found[0][name] for name in (*names, "attempts", "dry_run")}
                await asyncio.sleep(POLL)
    except TimeoutError:
        pass
    return outcome
