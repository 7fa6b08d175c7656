"""What Meta tells of templates, numbers, accounts, people and colleagues, from the journal to its effect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from tests.inbox_bench import NUMBER, Bench, opened, said, told
from waemitter.inbox.fields.actions import Rules
from waemitter.inbox.optout_words import LANGUAGES

PAYLOADS = Path(__file__).parents[1] / "payloads"
ACCOUNT = "214700000000001"
ADA = "+14155550123"
TEMPLATE = '{"template": {"name": "cart_reminder", "language": {"code": "en_US"}}}'


@pytest.fixture
async def bench(dsn: str) -> AsyncIterator[Bench]:
    async with opened(dsn, rules=Rules()) as bench:
        await bench.pool.execute("update waemitter.channels set waba_id = $1", ACCOUNT)
        yield bench


def payload(name: str) -> bytes:
    return (PAYLOADS / f"field_{name}.json").read_bytes()


def change(field: str, *, at: int = 1793700100, account: str = ACCOUNT, **value: Any) -> bytes:
    entry = {"id": account, "time": at, "changes": [{"field": field, "value": value}]}
    return orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})


def template(event: str, **more: Any) -> bytes:
    names: dict[str, Any] = {
        "message_template_name": "cart_reminder",
        "message_template_language": "en_US",
    }
    return change("message_template_status_update", event=event, **names, **more)


async def hear(bench: Bench, *bodies: bytes) -> None:
    await bench.journal(*bodies)
    await bench.split()
    assert [letter for letter in await bench.letters() if letter["direction"] == "inbound"] == []


async def put(bench: Bench, *, recipient: str = ADA) -> int:
    message: int = await bench.pool.fetchval(
        "select waemitter.send_message($1, 'template', $2)", recipient, TEMPLATE
    )
    return message


async def claim(bench: Bench) -> list[int]:
    rows = await bench.pool.fetch(
        "select message_id from waemitter.claim_messages('default', 100, '15 s', '1 s', '60 s',"
        " 'retry', 5) where message_id is not null"
    )
    return [row[0] for row in rows]


async def row(bench: Bench, message: int) -> asyncpg.Record:
    found = await bench.pool.fetchrow(
        "select * from waemitter.outbox_messages where id = $1", message
    )
    assert found is not None
    return found


async def channel(bench: Bench, name: str = "default") -> asyncpg.Record:
    found = await bench.pool.fetchrow("select * from waemitter.channels where name = $1", name)
    assert found is not None
    return found


async def listed(bench: Bench) -> list[tuple[Any, ...]]:
    rows = await bench.pool.fetch(
        "select address, channel, scope, reason from waemitter.suppressions order by id"
    )
    return [tuple(row) for row in rows]


async def soon(bench: Bench) -> int:
    """A second of Meta's that lies ahead, so that what runs from it still runs."""
    seconds: int = await bench.pool.fetchval("select extract(epoch from now())::bigint")
    return seconds


async def test_a_paused_template_waits_and_goes_on_when_meta_says_so(bench: Bench) -> None:
    now = await soon(bench)
    message = await put(bench)
    await hear(bench, template("PAUSED", at=now - 60, other_info={"title": "FIRST_PAUSE"}))
    assert await claim(bench) == []
    assert (await row(bench, message))["hold"] == "template:cart_reminder"
    until = await bench.pool.fetchval(
        "select extract(epoch from until)::bigint from waemitter.held_templates"
    )
    assert until == now - 60 + 3 * 3600

    await hear(bench, template("REINSTATED", at=now))

    assert await claim(bench) == [message]
    assert bench.freed == [True]
    states = [line["state"] for line in bench.observed.lines("TEMPLATE_CHANGED")]
    assert states == ["paused", "usable"]


async def test_what_is_older_than_the_last_word_changes_nothing(bench: Bench) -> None:
    message = await put(bench)
    await hear(bench, template("APPROVED", at=1793700100), template("PAUSED", at=1793700099))
    assert await claim(bench) == [message]
    assert len(bench.observed.lines("TEMPLATE_CHANGED")) == 1


async def test_a_pause_that_is_over_by_its_own_time_holds_nothing(bench: Bench) -> None:
    message = await put(bench)
    now = await soon(bench)
    await hear(bench, template("PAUSED", at=now - 4 * 3600, other_info={"title": "FIRST_PAUSE"}))
    assert await claim(bench) == [message]


@pytest.mark.parametrize("name", ["template_status_disabled", "template_status_rejected"])
async def test_messages_of_a_template_at_its_end_fail(bench: Bench, name: str) -> None:
    message = await put(bench)
    await hear(bench, payload(name))
    found = await row(bench, message)
    assert (found["status"], found["error_code"]) == ("failed", 132016)
    assert "Meta says" in found["error_message"]


async def test_or_wait_when_the_settings_say_so(dsn: str) -> None:
    async with opened(dsn, rules=Rules(ended_waits=True)) as bench:
        message = await put(bench)
        await hear(bench, payload("template_status_disabled"))
        assert await claim(bench) == []
        assert (await row(bench, message))["hold"] == "template:cart_reminder"


async def test_a_changed_category_decides_which_opt_outs_concern_a_template(bench: Bench) -> None:
    await bench.pool.execute("select waemitter.suppress($1, 'marketing')", ADA)
    assert (await row(bench, await put(bench)))["status"] == "queued"
    await hear(bench, payload("template_category_changed"))
    assert (await row(bench, await put(bench)))["status"] == "suppressed"
    (line,) = bench.observed.lines("TEMPLATE_JUDGED")
    assert (line["before"], line["after"]) == ("UTILITY", "MARKETING")


async def test_a_worse_quality_of_a_template_is_told_and_changes_nothing(bench: Bench) -> None:
    message = await put(bench)
    await hear(bench, payload("template_quality_update"), payload("template_category_impending"))
    assert [line["aspect"] for line in bench.observed.lines("TEMPLATE_JUDGED")] == [
        "quality",
        "category",
    ]
    assert await claim(bench) == [message]


async def test_what_an_account_is_comes_with_its_first_webhook(dsn: str) -> None:
    async with opened(dsn, rules=Rules()) as bench:
        await hear(bench, payload("smb_message_echo_text"))
        found = await channel(bench)
        assert (found["waba_id"], found["display_number"]) == (ACCOUNT, "15550104477")


async def test_a_number_s_upgrade_raises_its_throughput_and_its_tier(bench: Bench) -> None:
    await bench.pool.execute(
        "insert into waemitter.channels (name, phone_number_id, waba_id, display_number)"
        " values ('other', '2', $1, '15550109999')",
        ACCOUNT,
    )
    await bench.pool.execute(
        "update waemitter.channels set display_number = '15550104477' where name = 'default'"
    )
    await hear(bench, payload("phone_number_quality_throughput"))
    found, other = await channel(bench), await channel(bench, "other")
    assert (found["messages_per_second"], found["tier"]) == (1000, "TIER_UNLIMITED")
    assert (other["messages_per_second"], other["tier"]) == (80, None)

    await hear(bench, payload("business_capability_update_tier"))
    assert (await channel(bench, "other"))["tier"] == "TIER_10K"

    flagged = {"event": "FLAGGED", "display_phone_number": "+1 555-010-4477"}
    await hear(bench, change("phone_number_quality_update", at=1793800000, **flagged))
    assert (await channel(bench))["quality"] == "RED"


async def test_a_disabled_account_pauses_its_channels_until_it_is_reinstated(bench: Bench) -> None:
    await bench.pool.execute(
        "insert into waemitter.channels (name, phone_number_id, waba_id, paused_until, pause_reason)"
        " values ('theirs', '2', $1, 'infinity', 'audit'), ('foreign', '3', '999', null, null)",
        ACCOUNT,
    )
    message = await put(bench)
    await hear(bench, payload("account_update_disabled"))
    assert await claim(bench) == []
    reason = (await channel(bench))["pause_reason"]
    assert reason == "PAUSE_ACCOUNT: DISABLED_UPDATE DISABLE"
    assert (await channel(bench, "theirs"))["pause_reason"] == "audit"
    assert (await channel(bench, "foreign"))["paused_until"] is None
    assert len(bench.observed.lines("CHANNEL_PAUSED")) == 1

    await hear(bench, payload("account_update_reinstated"), payload("account_update_disabled"))

    assert await claim(bench) == [message]
    assert (await channel(bench, "theirs"))["paused_until"] is not None


async def test_a_restriction_of_templates_leaves_answers_to_customers_alone(bench: Bench) -> None:
    now = await soon(bench)
    kind = {"restriction_type": "RESTRICTED_BIZ_INITIATED_MESSAGING", "expiration": now + 3600}
    restriction: dict[str, Any] = {"event": "ACCOUNT_RESTRICTION", "restriction_info": [kind]}
    waiting = await put(bench)
    answer = await bench.pool.fetchval("select waemitter.send_text('+14155550199', 'Hi')")
    await hear(bench, change("account_update", at=now, **restriction))
    assert await claim(bench) == [answer]
    assert (await row(bench, waiting))["hold"] == "template:"
    assert len(bench.observed.lines("TEMPLATES_BARRED")) == 1

    ban: dict[str, Any] = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "REINSTATE"}}
    await hear(bench, change("account_update", at=now + 1, **ban))
    assert await claim(bench) == [waiting]


async def test_an_account_that_nobody_belongs_to_pauses_nobody(bench: Bench) -> None:
    await hear(
        bench,
        change("account_update", account="1", event="ACCOUNT_DELETED"),
        payload("account_update_violation"),
        payload("account_alerts"),
        payload("account_review_update"),
        payload("security_pin_reset"),
    )
    assert (await channel(bench))["paused_until"] is None
    levels = [line["level"] for line in bench.observed.lines("ACCOUNT_ALERT")]
    assert levels == ["warning", "warning", "info", "warning"]


async def test_meta_s_own_opt_out_of_marketing_is_kept_and_taken_back(bench: Bench) -> None:
    body = payload("user_preferences_stop")
    await hear(bench, body, body)
    assert await listed(bench) == [("915550101205", "default", "marketing", "marketing_stop")]
    await hear(bench, payload("user_preferences_resume").replace(b"1793700190", b"1793700191"))
    assert await listed(bench) == []
    await hear(bench, body.replace(b"marketing messages", b"again"))  # older than the last word
    assert await listed(bench) == []
    wishes = [line["wish"] for line in bench.observed.lines("OPT_OUT_HEARD")]
    assert wishes == ["stop", "start"]
    assert "915550101205" not in bench.observed.text()


async def test_what_a_colleague_wrote_is_kept_and_the_conversation_is_a_human_s(
    bench: Bench,
) -> None:
    now = await soon(bench)
    echo = payload("smb_message_echo_text").replace(b"1793700777", str(now).encode())
    await hear(bench, echo, echo + b" ")
    found = await bench.pool.fetchrow("select * from waemitter.conversations")
    assert found is not None
    assert (found["status"], found["last_inbound_at"]) == ("human", None)
    left = await bench.pool.fetchval(
        "select extract(epoch from takeover_until)::bigint from waemitter.conversations"
    )
    assert left == now + 4 * 3600
    (kept,) = await bench.pool.fetch("select * from waemitter.inbound_messages")
    assert (kept["from_us"], kept["message_type"]) == (True, "text")
    assert await bench.count("conversation_state_transitions") == 1
    assert "colleague on the phone" not in bench.observed.text()


async def test_an_echo_of_long_ago_takes_nothing_over(bench: Bench) -> None:
    await hear(bench, payload("smb_message_echo_text").replace(b"1793700777", b"1693700777"))
    assert await bench.pool.fetchval("select status from waemitter.conversations") == "idle"


@pytest.mark.parametrize(
    "name",
    [
        "calls_connect_user",
        "calls_terminate",
        "smb_app_state_sync",
        "group_participants_add",
        "phone_number_name_update",
        "template_components_update",
    ],
)
async def test_the_rest_is_journalled_and_told_and_changes_nothing(bench: Bench, name: str) -> None:
    await hear(bench, payload(name))
    assert len(bench.observed.lines("WEBHOOK_FIELD_HEARD")) == 1
    assert await bench.unprocessed() == 0
    assert await bench.count("inbound_messages") == 0


async def test_every_payload_of_a_field_twice_and_in_reverse_harms_nothing(bench: Bench) -> None:
    bodies = [path.read_bytes() for path in sorted(PAYLOADS.glob("field_*.json"))]
    await hear(bench, *bodies, *reversed(bodies))
    assert await bench.unprocessed() == 0


# What customers wish.


async def sent(bench: Bench) -> list[tuple[Any, ...]]:
    rows = await bench.pool.fetch(
        "select recipient, payload #>> '{text,body}', status, category from waemitter.outbox_messages"
        " order by id"
    )
    return [tuple(row) for row in rows]


def text(wamid: str, body: str, at: int = 1793700441, **more: Any) -> dict[str, Any]:
    return said(wamid, text={"body": body}, timestamp=str(at), **more)


async def test_a_stop_is_kept_confirmed_in_spite_of_itself_and_taken_back(bench: Bench) -> None:
    words = LANGUAGES["de"]
    await hear(bench, told(text("w1", "Stopp!")))
    assert await listed(bench) == [("14155550123", "default", "all", "stop_word")]
    assert await sent(bench) == [(ADA, words.stopped, "queued", "service")]
    assert len(await claim(bench)) == 1
    assert await bench.pool.fetchval("select wish from waemitter.inbound_messages") == "stop"
    assert (await row(bench, await put(bench)))["status"] == "suppressed"

    await hear(bench, told(text("w2", "anmelden", at=1793700442)))

    assert await listed(bench) == []
    assert (await sent(bench))[-1] == (ADA, words.started, "queued", "service")
    wishes = [(line["wish"], line["scope"]) for line in bench.observed.lines("OPT_OUT_HEARD")]
    assert wishes == [("stop", "all"), ("start", "all")]


async def test_the_same_stop_again_is_answered_once(bench: Bench) -> None:
    body = told(text("w1", "stop"))
    await hear(bench, body, body)
    assert len(await sent(bench)) == 1


async def test_a_start_that_came_after_the_stop_wins_in_whatever_order_they_arrive(
    bench: Bench,
) -> None:
    await hear(bench, told(text("w2", "start", at=1793700442)))
    await hear(bench, told(text("w1", "stop", at=1793700441)))
    assert await listed(bench) == []
    assert await sent(bench) == []


async def test_a_start_of_somebody_who_never_stopped_us_is_a_message_like_others(
    bench: Bench,
) -> None:
    await hear(bench, told(text("w1", "START"), text("w2", "please stop by at nine")))
    assert await listed(bench) == []
    assert await sent(bench) == []
    assert await bench.pool.fetchval("select count(wish) from waemitter.inbound_messages") == 0


async def test_a_button_s_payload_stops_too_and_who_has_no_number_goes_by_the_id(
    bench: Bench,
) -> None:
    user = "US.13491208655302741918"
    button = {"payload": "STOP", "text": "Keine Angebote"}
    await hear(
        bench,
        told(said("w1", sender=None, from_user_id=user, type="button", button=button)),
    )
    assert await listed(bench) == [(user, "default", "all", "stop_word")]
    assert (await sent(bench))[0][0] == user


async def test_a_start_leaves_what_an_operator_and_meta_have_put_on_the_list(bench: Bench) -> None:
    await bench.pool.execute(
        "select waemitter.suppress($1, channel => 'default'), waemitter.suppress($1, 'marketing')",
        ADA,
    )
    await hear(bench, told(text("w1", "start")))
    assert len(await listed(bench)) == 2


async def test_a_stop_may_concern_every_channel_and_need_no_answer(dsn: str) -> None:
    async with opened(dsn, rules=Rules(everywhere=True, stop_reply="")) as bench:
        await hear(bench, told(text("w1", "stop"), number=NUMBER))
        assert await listed(bench) == [("14155550123", None, "all", "stop_word")]
        assert await sent(bench) == []
