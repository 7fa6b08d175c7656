"""`waemitter media`: files for messages, uploaded to Meta."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Annotated, Final

import aiohttp
import typer

from waemitter.cli.context import AsJson, Config, explained, loaded, print_json, with_pool
from waemitter.db.pool import Pool
from waemitter.errors import UsageError
from waemitter.outbox.media.library import MediaLibrary, Number, Uploaded
from waemitter.outbox.media.store import MediaStore
from waemitter.settings import Settings
from waemitter.whatsapp.client import GraphClient, open_session

app: Final = typer.Typer(no_args_is_help=True, help="Files for messages.")

# The system's own tables differ from Meta's words, or lack them.
TYPES: Final = {
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".amr": "audio/amr",
    ".aac": "audio/aac",
    ".webp": "image/webp",
    ".3gp": "video/3gpp",
}


@app.callback()
def media() -> None:
    """Files for messages."""


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    *,
    mime_type: Annotated[
        str | None, typer.Option("--type", help="Its media type, where the name does not tell.")
    ] = None,
    channel: Annotated[
        str, typer.Option("--channel", help="The channel that will send it.")
    ] = "default",
    anew: Annotated[bool, typer.Option("--anew", help="Upload it even if it is there.")] = False,
    as_json: AsJson = False,
    config: Config = None,
) -> None:
    """Upload a file to Meta and print its media id; one that is there already is not sent again."""
    with explained():
        kind = mime_type or TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name)[0]
        if kind is None:
            raise UsageError(f"{file}: say what it is, as in --type application/pdf")
        settings = loaded(config).settings

    async def work(pool: Pool) -> Uploaded:
        async with open_session(connections=1) as session:
            number = _number(settings, channel, session)
            library = MediaLibrary(MediaStore(pool), {channel: number})
            with file.open("rb") as opened:
                return await library.upload(
                    opened, channel=channel, mime_type=kind, filename=file.name, anew=anew
                )

    uploaded = with_pool(config, work)
    if as_json:
        print_json({**uploaded.stored._asdict(), "reused": uploaded.reused})
    else:
        typer.echo(uploaded.stored.media_id)


def _number(settings: Settings, name: str, session: aiohttp.ClientSession) -> Number:
    if not settings.outbox.send_enabled:
        raise UsageError(
            "nothing is uploaded in a dry run: set WAEMITTER_OUTBOX__SEND_ENABLED=true"
        )
    channel = next((each for each in settings.channels if each.name == name), None)
    if channel is None:
        raise UsageError(f"there is no channel {name!r} in the settings")
    if channel.access_token is None or channel.phone_number_id is None:
        raise UsageError(
            f"channel {name!r} cannot upload: set {channel.access_token_env} and its phone number id"
        )
    client = GraphClient(
        session,
        base_url=settings.whatsapp.api_url,
        phone_number_id=channel.phone_number_id,
        access_token=channel.access_token.get_secret_value(),
        total_timeout=settings.outbox.request_timeout,
        connect_timeout=settings.outbox.connect_timeout,
    )
    return Number(channel.phone_number_id, client)
