from __future__ import annotations

import pytest

from tests.e2e.scene import Scene

SWEEPING = {"WAEMITTER_OUTBOX__SWEEP_INTERVAL": "1s"}
INSERT = """
    insert into waemitter.outbox_messages (recipient, message_type, payload, channel)
    values ($1, $2, $3, coalesce($4, 'default')) returning id
"""
TEXT = '{"text": {"body": "Hello"}}'

BAD = {
    "a name": (("Bob", "text", TEXT, None), "recipient: is neither a phone number"),
    "too short": (("+4912", "text", TEXT, None), "recipient: has 4 digits"),
    "national": (("0151 1234567", "text", TEXT, None), "recipient: starts with 0"),
    "no object": (("+14155550123", "text", '"Hello"', None), "payload: must be a JSON object"),
    "a list": (("+14155550123", "text", "[1, 2]", None), "payload: must be a JSON object"),
    "null": (("+14155550123", "text", "null", None), "payload: must be a JSON object"),
    "another type": (("+14155550123", "image", TEXT, None), "payload.image: is missing"),
    "no content": (("+14155550123", "text", '{"text": "Hello"}', None), "payload.text: must be an"),
    "our field": (
        ("+14155550123", "text", '{"to": "+1", "text": {"body": "x"}}', None),
        "payload.to: leave it out",
    ),
    "no channel": (("+14155550123", "text", TEXT, "nowhere"), "channel: there is no channel"),
    "refused by Meta": (("+14155550123", "text", '{"text": {"body": ""}}', None), ""),
}


async def test_each_bad_row_fails_by_itself_and_says_why(scene: Scene):
    await scene.play(environ=SWEEPING)
    ids = {name: await scene.value(INSERT, *values) for name, (values, _) in BAD.items()}
    good = await scene.value(INSERT, "(415) 555-0123", "text", TEXT, None)

    await scene.reaches(good, "read")
    for name, (_, complaint) in BAD.items():
        row = await scene.reaches(ids[name], "failed")
        assert complaint in row["error_message"], name
        assert row["available_at"] is None
    assert (await scene.report())["accepted"] == 1


async def test_a_row_of_an_unknown_channel_is_sent_once_the_channel_is_there(scene: Scene):
    await scene.play(environ=SWEEPING)
    message_id = await scene.value(INSERT, "+14155550123", "text", TEXT, "second")
    await scene.reaches(message_id, "failed")

    await scene.fetch(
        "update waemitter.outbox_messages set channel = 'default' where id = $1", message_id
    )
    assert (await scene.command("outbox", "retry", str(message_id))).code == 0

    await scene.reaches(message_id, "read")


@pytest.mark.parametrize("recipient", ["", "x" * 300])
async def test_gross_nonsense_is_refused_at_insert(scene: Scene, recipient: str):
    with pytest.raises(Exception, match="recipient_check"):
        await scene.send(recipient)
