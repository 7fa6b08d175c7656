"""Where the parts are served: on one port, or what strangers may reach on one and the rest on another."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from waemitter.errors import UsageError
from waemitter.web.app import Parts, build_app, serve


class Addresses(NamedTuple):
    """As URLs. `admin` is where everything but webhooks and liveness is, when that is apart."""

    main: str
    admin: str | None


@asynccontextmanager
async def serve_site(
    parts: Parts,
    *,
    host: str,
    port: int,
    admin_port: int | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> AsyncIterator[Addresses]:
    """Serve until the block ends. Raises UsageError for an address or a certificate that is no good."""
    tls = server_tls(cert=tls_cert, key=tls_key) if tls_cert and tls_key else None
    async with AsyncExitStack() as stack:
        admin = None
        if admin_port is not None:
            internal = build_app(parts, public=False)
            admin = await stack.enter_async_context(
                serve(internal, host=host, port=admin_port, tls=tls)
            )
        app = build_app(parts, internal=admin is None)
        main = await stack.enter_async_context(serve(app, host=host, port=port, tls=tls))
        yield Addresses(main, admin)


def server_tls(*, cert: Path, key: Path) -> ssl.SSLContext:
    """Read a certificate chain and its key. Raises UsageError when they cannot be used."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:  # an SSLError is an OSError; said for the reader
        raise UsageError(
            f"WAEMITTER_HTTP__TLS_CERT and WAEMITTER_HTTP__TLS_KEY ({cert}, {key}) cannot be used: "
            f"{error.strerror or type(error).__name__}; each is a file in PEM, the key without a password"
        ) from error
    return context
