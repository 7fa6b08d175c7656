"""Chatwoot's application API: messages, conversations, contacts. It takes no idempotency key.

So three things are told apart: an answer, a request that never left, and one that may have been heeded. No redirect is followed.
https://developers.chatwoot.com/api-reference
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import aiohttp
import orjson

from waemitter import __version__
from waemitter.chatwoot.messages import Post
from waemitter.chatwoot.webhooks import MARKER

_BEFORE_WRITING: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
_CONNECT_SHARE: Final = 0.9
_OK: Final = range(200, 300)
LONGEST_ANSWER: Final = 8 << 20
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole response; `document` None when it is no JSON, `retry_after` in seconds."""

    status: int
    document: Any
    retry_after: float | None = None

    @property
    def good(self) -> bool:
        return self.status in _OK and isinstance(self.document, dict | list)


@dataclass(frozen=True, slots=True)
class NotSent:
    """It failed before a byte of the request was written."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Part of the request left, and no whole response came."""

    reason: str


Reply: TypeAlias = Answered | NotSent | NoAnswer


@dataclass(frozen=True, slots=True)
class File:
    """A file to attach."""

    content: bytes
    filename: str
    mime_type: str


class ChatwootClient:
    """One account's. Trouble on the network is a reply too; only cancellation is raised."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        account_id: int,
        api_token: str,
        total_timeout: float,
        connect_timeout: float,
    ) -> None:
        """Time-outs in seconds."""
        self._session = session
        self._url = f"{base_url.rstrip('/')}/api/v1/accounts/{account_id}"
        self._headers = {
            "api_access_token": api_token,
            "Accept": "application/json",
            "User-Agent": f"waemitter/{__version__}",
        }
        connect = min(connect_timeout, total_timeout * _CONNECT_SHARE)
        self._timeout = aiohttp.ClientTimeout(total=total_timeout, connect=connect)

    async def post_message(
        self, conversation_id: int, post: Post, *, marker: str, file: File | None = None
    ) -> Reply:
        """Write into a conversation; `marker` is kept with the message, and found by it."""
        body: dict[str, Any] = {
            "content": post.content,
            "message_type": "incoming" if post.incoming else "outgoing",
            "private": post.private,
            "content_attributes": {**post.content_attributes, MARKER: marker},
        }
        if post.content_type is not None:
            body["content_type"] = post.content_type
        if post.template_params is not None:
            body["template_params"] = dict(post.template_params)
        path = f"/conversations/{conversation_id}/messages"
        if file is None:
            return await self._request("POST", path, body=body)
        return await self._request("POST", path, form=_form(body, file))

    async def messages(self, conversation_id: int, **query: int) -> Reply:
        """`after`: up to 100 behind that id, the oldest first; `before`: up to 20 before it; else the latest 20."""
        return await self._request("GET", f"/conversations/{conversation_id}/messages", query=query)

    async def conversations(self, inbox_id: int | None, *, page: int) -> Reply:
        """Of all statuses and assignees, those with the latest activity first; 25 on a page, from 1."""
        query: dict[str, Any] = {"status": "all", "assignee_type": "all", "page": page}
        if inbox_id is not None:
            query["inbox_id"] = inbox_id
        return await self._request("GET", "/conversations", query=query)

    async def find_contacts(self, text: str) -> Reply:
        """By a part of their name, identifier, address or number."""
        return await self._request("GET", "/contacts/search", query={"q": text})

    async def create_contact(self, contact: Mapping[str, Any]) -> Reply:
        """422: the number or the identifier is another's."""
        return await self._request("POST", "/contacts", body=contact)

    async def contact_conversations(self, contact_id: int) -> Reply:
        return await self._request("GET", f"/contacts/{contact_id}/conversations")

    async def create_conversation(
        self, *, inbox_id: int, contact_id: int, source_id: str | None
    ) -> Reply:
        """`source_id`: by what an API inbox knows the contact; other inboxes make their own."""
        body: dict[str, Any] = {"inbox_id": inbox_id, "contact_id": contact_id, "status": "open"}
        if source_id is not None:
            body["source_id"] = source_id
        return await self._request("POST", "/conversations", body=body)

    async def look(self) -> Reply:
        """Ask for the least there is: it shows whether the token is good."""
        return await self._request("GET", "/agents")

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        form: aiohttp.FormData | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Reply:
        headers = self._headers
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=form if body is None else orjson.dumps(body),
                params=query,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > LONGEST_ANSWER:
                        return NoAnswer("its answer is too long")
        except _BEFORE_WRITING as error:
            return NotSent(_reason(error))
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            return NoAnswer(_reason(error))
        asked = response.headers.get("Retry-After", "")
        wait = float(asked) if asked.isascii() and asked.isdigit() else None
        return Answered(response.status, _document(content), wait)


def _form(body: Mapping[str, Any], file: File) -> aiohttp.FormData:
    """Rails reads nested names."""
    form = aiohttp.FormData()
    for key, value in body.items():
        if isinstance(value, Mapping):
            form.add_field(key, orjson.dumps(value).decode())
        elif not (key == "content" and value == ""):
            form.add_field(key, str(value).lower() if isinstance(value, bool) else str(value))
    form.add_field(
        "attachments[]",
        io.BytesIO(file.content),
        filename=file.filename,
        content_type=file.mime_type,
    )
    return form


def _document(content: bytes | bytearray) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _reason(error: BaseException) -> str:
    """Name the error without its text, which may quote what was sent."""
    detail = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__
