"""The wire to the Graph API: a body goes out, and what came back is told truthfully.

One question decides about duplicates: had a byte of the request left when it failed? A message goes
by the `wire`, where the answer is plain. For all other requests aiohttp's session answers it by the
kind of exception. Whatever its connector raises (no address, refused, TLS, a time-out while
connecting or waiting for a free connection) comes before the request is written. Everything else
may come after it, a `ServerDisconnectedError` on a connection kept alive included: the server may
have closed before reading, or after.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from email.utils import parsedate_to_datetime
from typing import BinaryIO, Final

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from waemitter import __version__
from waemitter.runtime.addresses import guarded_socket, only_public
from waemitter.whatsapp.errors import Refused
from waemitter.whatsapp.health import Health, read_expiry, read_health
from waemitter.whatsapp.inbound_media import Described, DownloadFailed, read_description
from waemitter.whatsapp.media import read_upload
from waemitter.whatsapp.replies import Answered, NoAnswer, NotSent, Reply
from waemitter.whatsapp.wire import Broken, NotConnected, Wire

_BEFORE_WRITING: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
# The connecting must give up first, or its time-out could not be told from one after the writing.
_CONNECT_SHARE: Final = 0.9
_OK: Final = 200
_GONE: Final = frozenset({404, 410})
_CHUNK: Final = 256 * 1024
_SILENCE: Final = 30.0


class GraphClient:
    """One phone number's way to the Graph API.

    `base_url` includes the version: `https://graph.facebook.com/v24.0`. Both time-outs are in
    seconds; above five, aiohttp rounds the moment of giving up to the next whole second.
    `connect_timeout` includes the wait for a free connection.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        base_url: str,
        phone_number_id: str,
        access_token: str,
        total_timeout: float,
        connect_timeout: float,
    ) -> None:
        self._session = session
        self._number_url = URL(f"{base_url.rstrip('/')}/{phone_number_id}", encoded=True)
        self._media_url = URL(f"{self._number_url}/media", encoded=True)
        self._root = URL(base_url.rstrip("/"), encoded=True)
        self._token_url = self._root.joinpath("debug_token").with_query(input_token=access_token)
        self._phone_number_id = phone_number_id
        self._headers: CIMultiDict[str] = CIMultiDict(
            {
                "Authorization": f"Bearer {access_token}",
                "Content-Type": "application/json",
                "User-Agent": f"waemitter/{__version__}",
                # An answer is a few hundred bytes: unpacking it would cost more than it saves.
                "Accept-Encoding": "identity",
                "Accept": "application/json",
            }
        )
        self._form_headers = self._headers.copy()
        del self._form_headers["Content-Type"]  # a form's names its boundary
        connect_timeout = min(connect_timeout, total_timeout * _CONNECT_SHARE)
        self._timeout = aiohttp.ClientTimeout(total=total_timeout, connect=connect_timeout)
        assert session.connector is not None  # noqa: S101 an open session has one
        self._messages = Wire(
            session.connector,
            URL(f"{self._number_url}/messages", encoded=True),
            headers=self._headers,
            connect_timeout=connect_timeout,
            total_timeout=total_timeout,
        )

    async def send(self, body: bytes) -> Reply:
        """Post one message. Trouble on the network is a reply too; only cancellation is raised."""
        try:
            response = await self._messages.post(body)
        except NotConnected as error:
            return NotSent(_reason(error.__cause__))
        except Broken as error:
            return NoAnswer(_reason(error.__cause__))
        return _answered(response.status, response.headers, response.body)

    async def upload_media(
        self, file: BinaryIO, *, mime_type: str, filename: str, timeout: float
    ) -> str | Refused:
        """Upload a file from where it stands and return its media id; `timeout` in seconds.

        `filename` is percent-encoded on its way into the form; raises ValueError for one with control
        characters.
        """
        form = aiohttp.FormData()
        form.add_field("messaging_product", "whatsapp")
        form.add_field("type", mime_type)
        form.add_field("file", file, filename=filename, content_type=mime_type)
        limits = aiohttp.ClientTimeout(total=timeout, connect=self._timeout.connect)
        return read_upload(await self._request("POST", self._media_url, form, limits))

    async def describe_media(self, media_id: str) -> Described:
        """Ask where a file can be fetched that a customer sent; the address lives for five minutes.

        Raises DownloadFailed.
        """
        url = (self._root / media_id).with_query(phone_number_id=self._phone_number_id)
        return read_description(await self._request("GET", url, None))

    async def download_media(
        self, url: str, *, most: int, timeout: float, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Fetch a file from Meta's address, chunk by chunk, at most `most` bytes; `timeout` in seconds.

        The token goes over TLS to a public address, or to the Graph API's own, and follows no redirect.
        Raises DownloadFailed, and what `write` raises.
        """
        target = _meta_address(url)
        if target is None or (target.scheme != "https" and target.origin() != self._root.origin()):
            raise DownloadFailed("Meta's address of the file is no https address")
        limits = aiohttp.ClientTimeout(
            total=timeout, connect=self._timeout.connect, sock_read=_SILENCE
        )
        headers = {name: self._headers[name] for name in ("Authorization", "User-Agent")}
        elsewhere = only_public() if target.origin() != self._root.origin() else nullcontext()
        size = 0
        try:
            with elsewhere:
                response = await self._session.get(
                    target, headers=headers, timeout=limits, allow_redirects=False
                )
            async with response:
                if response.status != _OK:
                    raise DownloadFailed(
                        f"Meta's address of the file answered {response.status}",
                        moved=response.status in _GONE,
                    )
                async for chunk in response.content.iter_chunked(_CHUNK):
                    size += len(chunk)
                    if size > most:
                        raise DownloadFailed(f"it is larger than {most} bytes", again=False)
                    await write(chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DownloadFailed(f"the download broke off: {_reason(error)}") from error

    async def health_status(self) -> Health | Refused:
        """Ask whether Meta lets this number send; it costs no message."""
        url = self._number_url.with_query(fields="health_status")
        return read_health(await self._request("GET", url, None))

    async def token_expiry(self) -> float | None:
        """When the access token expires, in seconds since 1970, `inf` for never; None when Meta does not say."""
        return read_expiry(await self._request("GET", self._token_url, None))

    async def _request(
        self,
        method: str,
        url: URL,
        body: bytes | aiohttp.FormData | None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> Reply:
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers=self._form_headers if isinstance(body, aiohttp.FormData) else self._headers,
                timeout=timeout or self._timeout,
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except _BEFORE_WRITING as error:
            return NotSent(_reason(error))
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
            return NoAnswer(_reason(error))
        return _answered(response.status, response.headers, content)


def open_session(*, connections: int) -> aiohttp.ClientSession:
    """Open the pool of connections that all numbers share; to be closed by whoever opened it.

    The rest stays at aiohttp's defaults: other buffers, limits for each host and decompression
    changed nothing that could be measured, and its 15 seconds of keep-alive make it rare that a
    server closes an idle connection in the moment a message leaves on it. What `addresses` refuses
    is not connected to.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, socket_factory=guarded_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _meta_address(url: str) -> URL | None:
    try:
        return URL(url, encoded=True).with_fragment(None) if URL(url).host else None
    except ValueError:
        return None


def _answered(status: int, headers: CIMultiDictProxy[str], body: bytes) -> Answered:
    retry_after = _retry_after(headers) if "Retry-After" in headers else None
    return Answered(status, body, retry_after, headers.get("x-business-use-case-usage"))


def _reason(error: BaseException | None) -> str:
    """Name the error without its text, which may quote what was sent or received."""
    detail = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__


def _retry_after(headers: CIMultiDictProxy[str]) -> float | None:
    """Return the header in seconds; a date counts from the server's own `Date`, not our clock."""
    value = headers["Retry-After"].strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(headers["Date"])
        return max(0.0, (until - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
