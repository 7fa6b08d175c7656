"""`waemitter healthcheck`: for Docker's HEALTHCHECK and for scripts."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Annotated

import typer

from waemitter.cli.context import Config, explained, loaded


def healthcheck(
    *,
    ready: Annotated[
        bool, typer.Option("--ready", help="Ask whether it can work, not only whether it lives.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 5.0,
    config: Config = None,
) -> None:
    """Ask the daemon of these settings on this host. Exits with 0 or 1."""
    with explained():
        http = loaded(config).settings.http
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(http.host, http.host)  # noqa: S104 compared, not bound
    port = http.port if http.admin_port is None or not ready else http.admin_port
    scheme = "http" if http.tls_cert is None else "https"
    url = f"{scheme}://{host}:{port}/health/{'ready' if ready else 'live'}"
    # The certificate is for the name that the world calls; here it is this machine, asking itself.
    tls = ssl._create_unverified_context() if http.tls_cert else None  # noqa: S323, SLF001
    try:
        with urllib.request.urlopen(url, timeout=timeout, context=tls) as response:  # noqa: S310 http or https, written above
            typer.echo(response.read().decode())
    except urllib.error.HTTPError as error:
        body = error.read().decode(errors="replace")
        typer.echo(f"waemitter: {url} answered {error.code}: {_detail(body)}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        typer.echo(f"waemitter: no daemon answers at {url}: {reason}", err=True)
        raise typer.Exit(1) from None


def _detail(body: str) -> str:
    try:
        return str(json.loads(body).get("detail", body))
    except ValueError:
        return body[:200]
