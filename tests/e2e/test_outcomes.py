"""What Meta says about the number, the account, the template or the recipient, and what the daemon does about it."""

from __future__ import annotations

from typing import Any

from tests.e2e.scene import NO_LIMITS, Scene, events, until
from tests.support import eventually

OLD_TOKEN = {"WHATSAPP_ACCESS_TOKEN": "old-token"}
NEW_TOKEN = {"WHATSAPP_ACCESS_TOKEN": "new-token"}
PAUSED = "select paused_until > now() from waemitter.channels"


async def paused(scene: Scene) -> bool:
    return bool(await scene.value(PAUSED))


async def test_a_new_token_ends_the_pause_that_the_old_one_caused(scene: Scene):
    daemon, _ = await scene.play(*NO_LIMITS, "--access-token", "new-token", environ=OLD_TOKEN)
    message = await scene.send("+14155550123")
    await eventually(lambda: events(daemon, "CHANNEL_PAUSED"))
    await daemon.stop()

    same, _ = await scene.daemon(OLD_TOKEN)
    await eventually(lambda: events(same, "CHANNEL_PROBED"))
    [probed] = events(same, "CHANNEL_PROBED")
    still = await paused(scene)
    await same.stop()
    repaired, address = await scene.daemon(NEW_TOKEN)
    await scene.announce(address)

    row = await scene.reaches(message, "sent", "delivered", "read")
    assert (probed["sends"], still) == (False, True)
    assert row["attempts"] == 1
    assert events(repaired, "CHANNEL_RESUMED")


async def test_a_probe_finds_out_that_the_number_may_send_again(scene: Scene):
    daemon, _ = await scene.play(*NO_LIMITS, "--health", "BLOCKED", "--error-mix", "131031=1")
    message = await scene.send("+14155550123")
    await eventually(lambda: events(daemon, "CHANNEL_PAUSED"))
    await daemon.stop()
    await scene.options(health="AVAILABLE", error_mix={})

    again, address = await scene.daemon()  # which probes when it starts
    await scene.announce(address)

    await scene.reaches(message, "sent", "delivered", "read")
    [probed] = events(again, "CHANNEL_PROBED")
    assert probed["sends"]


def failed(scene_row: Any, code: int) -> dict[str, Any]:
    """A status webhook by which Meta gives a message up."""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550100", "phone_number_id": "111000111"},
        "statuses": [
            {
                "id": scene_row["whatsapp_message_id"],
                "status": "failed",
                "timestamp": str(int(scene_row["sent_at"].timestamp()) + 1),
                "recipient_id": "14155550123",
                "errors": [{"code": code, "title": "Business eligibility payment issue"}],
            }
        ],
    }
    change = {"field": "messages", "value": value}
    return {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}


async def test_an_account_problem_that_only_a_status_tells_pauses_and_loses_nothing(scene: Scene):
    daemon, _ = await scene.play(*NO_LIMITS, "--no-statuses")
    row = await scene.reaches(await scene.send("+14155550123"), "sent")

    await scene.control("POST", "webhook", {"body": failed(row, 131042)})
    await eventually(lambda: events(daemon, "CHANNEL_PAUSED"))
    waiting = await scene.reaches(row["id"], "queued")
    later = await scene.send("+14155550124")
    await scene.fetch("update waemitter.channels set paused_until = null")

    await scene.reaches(row["id"], "sent")
    await scene.reaches(later, "sent")
    assert (
        waiting["attempts"],
        await scene.value("select count(*) from waemitter.dead_letters"),
    ) == (0, 0)


async def test_the_messages_of_a_paused_template_wait_and_go_when_it_is_released(scene: Scene):
    daemon, _ = await scene.play(*NO_LIMITS)
    template = {"name": "sale", "language": "en", "category": "marketing", "status": "paused"}
    await scene.control("POST", "templates", template)
    await scene.fetch(
        "select waemitter.send_template('+1415555' || (1000 + n), 'sale', 'en', ordering_key => '') from generate_series(1, 20) n"
    )
    await eventually(lambda: events(daemon, "TEMPLATE_HELD"))

    async def all_held() -> bool:
        return bool(
            await scene.value(
                "select count(*) = 20 from waemitter.outbox_messages where hold = 'template:sale' and attempts = 0"
            )
        )

    await until(all_held)
    refused = (await scene.report())["refused_by_code"]["132015"]
    await scene.control("POST", "templates", template | {"status": "approved"})
    await scene.fetch("select waemitter.release_template('default', 'sale')")

    await scene.all_reach("sent", "delivered", "read")
    assert refused <= 20


async def test_a_recipient_who_stopped_marketing_is_remembered(scene: Scene):
    await scene.play(*NO_LIMITS)
    message = await scene.send("+15550131050")
    await scene.reaches(message, "failed")
    [found] = await scene.fetch("select * from waemitter.suppressions")
    assert (found["address"], found["reason"]) == ("15550131050", "marketing_stop")


async def test_a_bad_row_and_a_refused_message_are_dead_letters_and_a_retry_resolves_one(
    scene: Scene,
):
    await scene.play(*NO_LIMITS)
    refused = await scene.send("+15550131009")
    await scene.reaches(refused, "failed")
    await scene.fetch("update waemitter.outbox_messages set payload = '{}' where id = $1", refused)
    [letter] = await scene.fetch("select * from waemitter.dead_letters")
    await scene.fetch(
        "update waemitter.outbox_messages set recipient = '+14155550123', payload = $2 where id = $1",
        refused,
        letter["payload"],
    )
    await scene.fetch("select waemitter.retry_letter($1)", letter["id"])

    await scene.reaches(refused, "sent", "delivered", "read")
    [resolved] = await scene.fetch("select * from waemitter.dead_letters")
    assert (letter["error_class"], letter["error_code"]) == ("FAIL", 131009)
    assert (resolved["id"], resolved["resolution_status"]) == (letter["id"], "resolved")
