"""What an operator does from the command line about channels and dead letters."""

from __future__ import annotations

from tests.e2e.scene import Scene


async def test_channels_are_listed_paused_resumed_and_their_templates_released(scene: Scene):
    await scene.fetch("select waemitter.hold_template('default', 'sale')")

    paused = await scene.command("channels", "pause", "default", "--reason", "audit", "--json")
    listed = await scene.command("channels", "list", "--json")
    shown = await scene.command("channels", "list")
    resumed = await scene.command("channels", "resume", "default")
    again = await scene.command("channels", "resume", "default")
    released = await scene.command("channels", "release-template", "default", "sale", "--json")
    unheld = await scene.command("channels", "release-template", "default", "sale")

    [row] = listed.json()
    assert (paused.code, paused.json()) == (0, {"channel": "default", "paused": True})
    assert (row["state"], row["pause_reason"], row["messages_per_second"]) == (
        "paused",
        "operator: audit",
        80.0,
    )
    assert row["held_templates"] == ["sale"]
    assert shown.out.startswith("default\tpaused\t80.0")
    assert (resumed.code, again.code, unheld.code) == (0, 1, 1)
    assert len(again.complaints) == len(unheld.complaints) == 1
    assert released.json() == {"released": 0}


async def test_dead_letters_are_listed_shown_retried_and_discarded(scene: Scene):
    await scene.fetch(
        "insert into waemitter.dead_letters (direction, stage, payload, error, resolution_status)"
        " select 'inbound', 'split', '{}', 'it broke', 'abandoned' from generate_series(1, 3)"
    )

    listed = await scene.command("dlq", "list", "--direction", "inbound", "--json")
    shown = await scene.command("dlq", "show", "1", "--json")
    missing = await scene.command("dlq", "show", "99")
    neither = await scene.command("dlq", "retry")
    retried = await scene.command("dlq", "retry", "1", "--json")
    discarded = await scene.command(
        "dlq", "discard", "--all-matching", "--status", "abandoned", "--json"
    )
    once_more = await scene.command("dlq", "discard", "2", "3")

    assert [row["id"] for row in listed.json()] == [3, 2, 1]
    assert (shown.json()["error"], missing.code, neither.code) == ("it broke", 1, 2)
    assert retried.json() == {"asked": 1, "changed": [1]}
    assert discarded.json()["asked"] == 2
    assert sorted(discarded.json()["changed"]) == [2, 3]
    assert (once_more.code, once_more.out.strip()) == (1, "0 of 2")
    due = await scene.value(
        "select count(*) from waemitter.dead_letters where next_retry_at <= now()"
    )
    assert due == 1
