"""The daemon's HTTP as operators set it up: keys, a port of its own for the API, TLS."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.e2e.scene import Scene, events, until
from waemitter.ops.stage import APP_SECRET
from waemitter.whatsapp.signature import sign

TEXT = {"recipient": "+14155550123", "messageType": "text", "payload": {"text": {"body": "Hi"}}}


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


async def asked(method: str, url: str, key: str = "", body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, url, json=body, ssl=False) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def test_keys_a_port_apart_and_tls(scene: Scene, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    environ = {
        "WAEMITTER_HTTP__ADMIN_PORT": str(free_port()),
        "WAEMITTER_HTTP__TLS_CERT": str(cert),
        "WAEMITTER_HTTP__TLS_KEY": str(key),
        "WAEMITTER_HTTP__API_KEYS": "s3cret-for-the-shop=send+read",
    }
    await scene.simulate()
    daemon, main = await scene.daemon(environ)
    (started,) = events(daemon, "DAEMON_STARTED")
    admin = started["admin_address"]
    assert main.startswith("https://")
    assert admin.startswith("https://")

    assert (await asked("GET", f"{main}/health/live"))[0] == 200
    for path in ("/health/ready", "/metrics", "/api/messages", "/api/openapi.json"):
        assert (await asked("GET", f"{main}{path}"))[0] == 404
    assert (await asked("POST", f"{main}/webhooks/outbox", body={}))[0] == 401
    assert (await asked("GET", f"{admin}/health/ready"))[0] == 200
    assert (await asked("GET", f"{admin}/api/messages"))[0] == 401
    assert (await asked("POST", f"{admin}/api/queue/worker", "s3cret-for-the-shop"))[0] == 403

    status, made = await asked("POST", f"{admin}/api/messages", "s3cret-for-the-shop", TEXT)
    assert status == 201
    await scene.reaches(made["id"], "sent", "delivered", "read")
    assert "s3cret" not in "\n".join(daemon.lines)

    port = main.rpartition(":")[2]
    for arguments in ((), ("--ready",)):
        health = await scene.command(
            "healthcheck", *arguments, environ=environ | {"WAEMITTER_HTTP__PORT": port}
        )
        assert health.code == 0, health.err


async def test_keys_made_while_it_runs_and_the_old_names(scene: Scene) -> None:
    await scene.simulate()
    _, address = await scene.daemon()
    assert (await asked("POST", f"{address}/api/queue/worker"))[0] == 200  # no key: this machine
    made = (await scene.command("keys", "create", "cron", "--scope", "trigger")).out.strip()

    async def locked() -> bool:
        return (await asked("POST", f"{address}/api/queue/worker"))[0] == 401

    await until(locked)
    assert (await asked("POST", f"{address}/api/queue/worker", made))[0] == 200
    _, second = await scene.daemon({"WORKER_SECRET": "the-older-runbook-s"})
    assert (await asked("POST", f"{second}/api/queue/worker", "the-older-runbook-s"))[0] == 200
    assert (await asked("GET", f"{second}/api/messages", "the-older-runbook-s"))[0] == 403


async def test_a_certificate_that_is_none_is_one_clear_line(scene: Scene, tmp_path: Path) -> None:
    broken = tmp_path / "cert.pem"
    broken.write_text("not a certificate")
    ended = await scene.command(
        "run",
        environ={"WAEMITTER_HTTP__TLS_CERT": str(broken), "WAEMITTER_HTTP__TLS_KEY": str(broken)},
    )
    assert ended.code == 2
    (line,) = [line for line in ended.complaints if "TLS" in line]
    assert "WAEMITTER_HTTP__TLS_CERT" in line
    assert "PEM" in line


async def test_a_daemon_that_is_read_only_shows_and_takes_webhooks(scene: Scene) -> None:
    _, address = await scene.daemon({"WAEMITTER_HTTP__READ_ONLY": "true"})
    body = orjson.dumps({"object": "whatsapp_business_account", "entry": []})
    signed = {"X-Hub-Signature-256": sign(APP_SECRET, body)}
    assert (await asked("POST", f"{address}/api/messages", body=TEXT))[0] == 403
    assert (await asked("GET", f"{address}/api/messages"))[0] == 200
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{address}/dashboard") as page:
            assert "read-only" in await page.text()
        async with session.post(f"{address}/webhooks/whatsapp", data=body, headers=signed) as took:
            assert took.status == 200
