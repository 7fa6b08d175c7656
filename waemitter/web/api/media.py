"""`POST /api/media`: a file for messages, as a form's field or as the body itself."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, BinaryIO, Final

from aiohttp import BodyPartReader, web
from pydantic import Field

from waemitter.errors import PayloadError, UploadFailed
from waemitter.outbox.media.library import MediaLibrary
from waemitter.web.api.model import CHANNEL_PARAMETER, Answered, Nothing, Parameters
from waemitter.web.api.operation import Answer, Call, Operation
from waemitter.web.problems import Fault, Problem, unprocessable
from waemitter.whatsapp.media import LARGEST

TIME: Final = 300.0
"""Seconds for a file to come in and go out to Meta."""
LONGEST_WORD: Final = 256
CHUNK: Final = 64 * 1024


class MediaParameters(Parameters):
    channel: str | None = Field(
        None, pattern=CHANNEL_PARAMETER, description="`default` unless given here or in the form."
    )
    type: str | None = Field(
        None, max_length=LONGEST_WORD, description="The media type, where the body's own is not it."
    )
    filename: str | None = Field(None, max_length=LONGEST_WORD)


class Media(Answered):
    """`mediaId` goes into a payload: `{"image": {"id": …}}`. `reused`: it was uploaded before."""

    media_id: str
    channel: str
    sha256: str
    mime_type: str
    bytes: int
    uploaded_at: datetime.datetime
    expires_at: datetime.datetime
    reused: bool


class MediaUploads:
    """The handler, over the library."""

    def __init__(self, library: MediaLibrary) -> None:
        self._library = library

    def operations(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                name="uploadMedia",
                method="POST",
                path="/api/media",
                summary="Upload a file to Meta, unless it is there.",
                scope="send",
                params=MediaParameters,
                body=Nothing,
                handle=self.upload,
                answers={HTTPStatus.CREATED: Media, HTTPStatus.OK: Media},
                refusals=(HTTPStatus.BAD_GATEWAY,),
                uploads=("multipart/form-data", "application/octet-stream"),
                time=TIME,
            ),
        )

    async def upload(self, call: Call[MediaParameters, Nothing]) -> Answer:
        with tempfile.TemporaryFile() as file:
            said = await _received(call.request, file)
            said |= call.params.model_dump(exclude_none=True)
            file.seek(0)
            try:
                uploaded = await self._library.upload(
                    file,
                    channel=said.get("channel") or "default",
                    mime_type=said.get("type", ""),
                    filename=said.get("filename", ""),
                )
            except PayloadError as error:
                raise unprocessable([Fault(error.field, error.reason)]) from None
            except UploadFailed as error:
                raise Problem(HTTPStatus.BAD_GATEWAY, f"{error}.") from None
        return Answer(
            document=Media(**uploaded.stored._asdict(), reused=uploaded.reused),
            status=HTTPStatus.OK if uploaded.reused else HTTPStatus.CREATED,
        )


async def _received(request: web.Request, file: BinaryIO) -> dict[str, str]:
    """Write the file that a request carries, and return what it says of it."""
    if (request.content_length or 0) > LARGEST + CHUNK:
        raise _too_large()
    try:
        if request.content_type.startswith("multipart/"):
            return await _form(request, file)
        written = 0
        async for chunk in request.content.iter_chunked(CHUNK):
            written = _write(file, chunk, written)
    except (ConnectionError, web.RequestPayloadError):
        raise Problem(HTTPStatus.BAD_REQUEST, "The body is incomplete.") from None
    return {"type": request.content_type}


async def _form(request: web.Request, file: BinaryIO) -> dict[str, str]:
    said: dict[str, str] = {}
    found = False
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                continue
            if part.name == "file" and not found:
                found = True
                said.setdefault("type", part.headers.get("Content-Type", ""))
                said["filename"] = part.filename or ""
                written = 0
                while chunk := await part.read_chunk(CHUNK):
                    written = _write(file, chunk, written)
            elif part.name in {"type", "channel"}:
                said[part.name] = (await part.read_chunk(LONGEST_WORD)).decode(errors="replace")
    except (ValueError, AssertionError):  # aiohttp's words for a form that is none
        raise Problem(HTTPStatus.BAD_REQUEST, "The form cannot be read.") from None
    if not found:
        raise unprocessable([Fault("file", "is missing: send the file in a field of that name")])
    return said


def _write(file: BinaryIO, chunk: bytes, written: int) -> int:
    if written + len(chunk) > LARGEST:
        raise _too_large()
    file.write(chunk)
    return written + len(chunk)


def _too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {LARGEST} bytes are accepted.", close=True
    )
