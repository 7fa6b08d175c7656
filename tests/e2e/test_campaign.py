"""`waemitter campaign …` as people use it, with a daemon beside it that sends."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tests.e2e.scene import NO_LIMITS, Scene, until

LIST = """\
phone,name
+1 415 555 0001,Ada
+14155550002,Grace
+14155131009,Refused
nobody,Bob
+14155550003,
"""


async def test_a_campaign_from_a_list_to_its_export(scene: Scene, tmp_path: Path):
    await scene.play(*NO_LIMITS, "--read-probability", "1")
    people = tmp_path / "people.csv"
    people.write_text(LIST)
    card = tmp_path / "card.csv"
    card.write_text("country,category,price,currency\nUS,utility,0.01,USD\n*,service,0,USD\n")

    made = await scene.command(
        *("campaign", "create", "May", "--csv", str(people), "--text", "Hello {{name}}", "--json")
    )
    campaign = str(made.json()["id"])
    sent = await scene.command("campaign", "send", campaign, "--wait", "--json")
    assert (await scene.command("campaign", "rates", str(card))).code == 0

    assert made.code == 0
    assert (made.json()["status"], made.json()["queued"]) == ("draft", 3)
    assert [rejected["recipient"] for rejected in made.json()["rejected"]] == [
        "nobody",
        "+14155550003",
    ]
    assert (sent.code, sent.json()["status"]) == (0, "completed")

    async def read_by_all() -> dict[str, object] | None:
        told = await scene.command("campaign", "status", campaign, "--json")
        found: dict[str, object] = told.json()
        return found if found["read"] == 2 else None

    status = await until(read_by_all)
    assert (status["total"], status["sent"], status["delivered"], status["failed"]) == (3, 2, 2, 1)
    assert [failure["code"] for failure in status["failures"]] == [131009]  # type: ignore[attr-defined]

    export = await scene.command("campaign", "export", campaign)
    rows = list(csv.DictReader(io.StringIO(export.out)))
    assert [(row["recipient"], row["status"]) for row in rows] == [
        ("+14155550001", "read"),
        ("+14155550002", "read"),
        ("+14155131009", "failed"),
    ]
    assert rows[0]["whatsapp_message_id"].startswith("wamid.")
    bodies = await scene.value(
        "select string_agg(payload #>> '{text,body}', '; ' order by id) from waemitter.outbox_messages"
    )
    assert bodies == "Hello Ada; Hello Grace; Hello Refused"
