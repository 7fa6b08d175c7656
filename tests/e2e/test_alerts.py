"""A daemon tells a receiver what is wrong, and that it is over."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.e2e.scene import Scene
from tests.support import eventually


async def test_what_goes_wrong_and_right_again_is_heard_by_the_receiver(scene: Scene) -> None:
    heard: list[dict[str, Any]] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/alerts", hear)
    async with TestServer(app) as receiver:
        await scene.daemon(
            {
                "WAEMITTER_ALERTS__WEBHOOK_URL": str(receiver.make_url("/alerts")),
                "WAEMITTER_ALERTS__INTERVAL": "1s",
            }
        )
        await scene.fetch("update waemitter.channels set quality = 'RED' where name = 'default'")
        await eventually(lambda: heard, within=20)
        doctor = await scene.command("doctor", "--json")
        await scene.fetch("update waemitter.channels set quality = 'GREEN' where name = 'default'")
        await eventually(lambda: len(heard) > 1, within=20)

    assert [document["status"] for document in heard] == ["firing", "resolved"]
    assert {document["groupLabels"]["alertname"] for document in heard} == {"WaemitterQualityLow"}
    (found,) = [each for each in doctor.json() if each["check"] == "alerts"]
    assert found["said"] == "Meta rates the quality of default as low"

    async def ended() -> dict[str, Any]:
        """Every second another run begins: one that has ended tells how."""
        jobs = (await scene.command("jobs", "list", "--json")).json()
        (job,) = [each for each in jobs if each["name"] == "alerts"]
        return {} if job["last_status"] == "running" else dict(job)

    job: dict[str, Any] = await eventually(ended, within=20)
    assert job["last_status"] == "succeeded"
    assert job["last_summary"].keys() == {"success", "firing", "sent", "failed", "durationMs"}
