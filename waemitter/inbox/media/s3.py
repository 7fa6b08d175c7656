"""An S3-compatible bucket to keep files in; needs the extra `waemitter[s3]`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

if TYPE_CHECKING:  # types alone: they are not there at run time
    from obstore.store import ClientConfig, S3Config


class Bucket:
    """Objects by day, under a prefix: `s3://bucket/prefix/2026-07-01/<sha256>.jpg`."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
    ) -> None:
        """`endpoint`: of another provider than AWS.

        Without a key, AWS's own sources are asked: the environment, the role of the machine or task.
        """
        config: S3Config = {}
        if endpoint is not None:
            config["endpoint"] = endpoint
        if region is not None:
            config["region"] = region
        if access_key_id is not None and secret_access_key is not None:
            config["access_key_id"] = access_key_id
            config["secret_access_key"] = secret_access_key
        options: ClientConfig = {
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=10),
            "timeout": timedelta(seconds=120),
        }
        self._store = S3Store(bucket, config=config, client_options=options)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._root = f"s3://{bucket}/"

    async def keep(self, file: Path, key: str, *, mime_type: str | None) -> str:
        name = self._prefix + key
        attributes = {"Content-Type": mime_type or "application/octet-stream"}
        try:
            await obstore.put_async(self._store, name, file, attributes=attributes)
        except BaseError as error:
            raise _failed("write", error) from error
        return self._root + name

    async def read(self, path: str) -> bytes:
        if not path.startswith(self._root + self._prefix):
            raise FileNotFoundError(path)
        try:
            found = await obstore.get_async(self._store, path.removeprefix(self._root))
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            raise FileNotFoundError(path) from None
        except BaseError as error:
            raise _failed("read", error) from error

    async def remove(self, path: str) -> None:
        if not path.startswith(self._root + self._prefix):
            return
        try:
            await obstore.delete_async(self._store, path.removeprefix(self._root))
        except FileNotFoundError:
            return
        except BaseError as error:
            raise _failed("delete", error) from error


def _failed(doing: str, error: Exception) -> OSError:
    """By its class alone: the library's words quote addresses and requests."""
    return OSError(f"the bucket did not {doing} ({type(error).__name__})")
