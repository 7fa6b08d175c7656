"""Opt-outs and windows: what an application is told when it enqueues, and what a claim makes of what was enqueued before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import orjson
import pytest
from typer.testing import CliRunner, Result

from tests.outbox_rows import Outbox, ago, ahead, outbox_at
from waemitter.cli.main import app
from waemitter.outbox.permissions.store import PermissionStore
from waemitter.outbox.permissions.window import WindowPolicy

ADA = "+14155550123"
TEMPLATE = {"template": {"name": "sale", "language": {"code": "en_US"}}}


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        yield outbox


async def send(outbox: Outbox, **arguments: Any) -> asyncpg.Record:
    """Through the function that applications call; the row, as it is then."""
    given = {"recipient": ADA, "message_type": "text", "payload": '{"text": {"body": "Hi"}}'}
    given |= arguments
    named = ", ".join(f"{name} => ${place}" for place, name in enumerate(given, 1))
    message_id = await outbox.pool.fetchval(
        f"select waemitter.send_message({named})", *given.values()
    )
    return await outbox.row(message_id)


async def suppress(outbox: Outbox, scope: str = "all", channel: str | None = None) -> bool:
    added: bool = await outbox.pool.fetchval(
        "select waemitter.suppress(recipient => $1, scope => $2, channel => $3)",
        ADA,
        scope,
        channel,
    )
    return added


async def wrote(outbox: Outbox, seconds_ago: float, recipient: str = "14155550123") -> None:
    contact = await outbox.pool.fetchval(
        "select waemitter.contact_of(channel => 'default', wa_id => $1)", recipient
    )
    await outbox.pool.execute(
        "insert into waemitter.conversations (channel, contact_id, last_inbound_at)"
        " values ('default', $1, $2)",
        contact,
        ago(seconds_ago),
    )


async def test_a_message_to_who_opted_out_is_suppressed_from_the_start(outbox: Outbox) -> None:
    assert await suppress(outbox)
    assert not await suppress(outbox)

    row = await send(outbox, recipient="+1 (415) 555-0123")

    assert (row["status"], row["available_at"]) == ("suppressed", None)
    assert "opted out" in row["error_message"]
    assert await outbox.events(row["id"]) == [("queued", "suppressed")]
    assert await outbox.claim_ids() == []


async def test_its_idempotency_key_is_taken_all_the_same(outbox: Outbox) -> None:
    await suppress(outbox)
    first = await send(outbox, idempotency_key="order-17")
    await outbox.pool.execute("select waemitter.unsuppress($1)", ADA)
    assert (await send(outbox, idempotency_key="order-17"))["id"] == first["id"]


async def test_once_they_are_back_a_suppressed_message_can_be_retried(outbox: Outbox) -> None:
    await suppress(outbox)
    row = await send(outbox)
    await outbox.pool.execute("select waemitter.unsuppress($1)", ADA)
    assert await outbox.pool.fetchval("select waemitter.retry_message($1)", row["id"])
    assert await outbox.claim_ids() == [row["id"]]


@pytest.mark.parametrize(
    ("scope", "category", "payload", "concerned"),
    [
        ("all", None, None, True),
        ("all", "marketing", None, True),
        ("all", "utility", None, False),
        ("all", "authentication", TEMPLATE, False),
        ("all", "service", None, False),
        ("marketing", None, None, False),
        ("marketing", None, TEMPLATE, True),  # by Meta's own word about the template
        ("marketing", "utility", TEMPLATE, False),
        ("marketing", "marketing", None, True),
    ],
)
async def test_what_an_opt_out_concerns_at_enqueue_and_at_dispatch(
    outbox: Outbox,
    scope: str,
    category: str | None,
    payload: dict[str, Any] | None,
    *,
    concerned: bool,
) -> None:
    await outbox.channel(waba_id="214")
    await outbox.pool.execute(
        "select waemitter.is_news('214', 'template_category', 'sale', 'MARKETING', now())"
    )
    given: dict[str, Any] = {"category": category}
    if payload is not None:
        given |= {"message_type": "template", "payload": orjson.dumps(payload).decode()}
    before = await send(outbox, ordering_key="", **given)
    assert before["status"] == "queued"

    await suppress(outbox, scope)
    after = await send(outbox, ordering_key="", **given)
    claimed = await outbox.claim_ids()

    assert (after["status"] == "suppressed") == concerned
    assert (await outbox.row(before["id"]))["status"] == ("suppressed" if concerned else "sending")
    assert claimed == ([] if concerned else [before["id"], after["id"]])


async def test_a_template_of_which_meta_told_nothing_is_left_to_meta(outbox: Outbox) -> None:
    await suppress(outbox, "marketing")
    row = await send(outbox, message_type="template", payload=orjson.dumps(TEMPLATE).decode())
    assert row["status"] == "queued"


async def test_an_opt_out_of_one_channel_leaves_the_others_alone(outbox: Outbox) -> None:
    await outbox.channel("shop")
    await suppress(outbox, channel="shop")
    assert (await send(outbox))["status"] == "queued"
    assert (await send(outbox, channel="shop"))["status"] == "suppressed"


async def test_an_application_sees_that_its_message_is_suppressed_and_no_list(dsn: str) -> None:
    async with outbox_at(dsn) as owner:
        await suppress(owner)
        await owner.channel(window_policy="fail")
    pool = asyncpg.create_pool(dsn, min_size=1, server_settings={"role": "waemitter_app"})
    async with pool:
        message_id = await pool.fetchval("select waemitter.send_text($1, 'Hi')", ADA)
        other = await pool.fetchval("select waemitter.send_text('+14155550199', 'Hi')")
        statuses = await pool.fetch(
            "select status from waemitter.outbox_messages where id = any ($1) order by id",
            [message_id, other],
        )
        assert [row["status"] for row in statuses] == ["suppressed", "failed"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("select from waemitter.suppressions")


@pytest.mark.parametrize(
    ("policy", "payload", "status"),
    [
        ("send", {}, "queued"),
        ("fail", {}, "failed"),
        ("fail", {"fallback_template": TEMPLATE["template"]}, "failed"),
        ("template", {}, "failed"),
        ("template", {"fallback_template": TEMPLATE["template"]}, "queued"),
    ],
)
async def test_outside_the_window_the_channel_s_policy_counts_at_enqueue(
    outbox: Outbox, policy: str, payload: dict[str, Any], status: str
) -> None:
    await outbox.channel(window_policy=policy)
    await wrote(outbox, 86_401)
    body = orjson.dumps({"text": {"body": "Hi"}, **payload}).decode()
    row = await send(outbox, payload=body)
    assert row["status"] == status
    if status == "failed":
        assert (row["error_code"], row["failed_at"] is not None) == (131047, True)


async def test_within_the_window_and_for_templates_and_groups_there_is_nothing_to_say(
    outbox: Outbox,
) -> None:
    await outbox.channel(window_policy="fail")
    group = '{"recipient_type": "group", "text": {"body": "Hi"}}'
    assert (await send(outbox, payload=group))["status"] == "queued"
    template = {"message_type": "template", "payload": orjson.dumps(TEMPLATE).decode()}
    assert (await send(outbox, **template))["status"] == "queued"
    later = await send(outbox, available_at=ahead(600))
    assert later["status"] == "queued"  # they may write until then
    assert (await send(outbox))["status"] == "failed"
    await wrote(outbox, 86_300)
    assert (await send(outbox))["status"] == "queued"


async def test_at_dispatch_the_window_is_looked_up_for_a_whole_claim(outbox: Outbox) -> None:
    store = PermissionStore(outbox.pool)
    await store.set_window("default", WindowPolicy.FAIL)
    assert await outbox.pool.fetchval("select window_policy from waemitter.channels") == "fail"
    await wrote(outbox, 10)
    inside = await outbox.put()
    outside = await outbox.put(recipient="+14155550199")
    user = await outbox.put(recipient="US.13491208655302741918")
    template = await outbox.put(
        recipient="+14155550199", message_type="template", payload=orjson.dumps(TEMPLATE).decode()
    )
    found = await store.outside_window([inside, outside, user, template])
    assert found == {outside, user}


@pytest.fixture
def listed(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("DATABASE_URL", dsn)
    return iter([dsn])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["optout", *arguments])


@pytest.mark.usefixtures("listed")
def test_the_list_is_kept_by_hand() -> None:
    added = run("add", "+1 (415) 555-0123", "US.13491208655302741918", "--json")
    again = run("add", ADA, "--scope", "marketing", "--reason", "complaint")
    assert orjson.loads(added.stdout) == {"asked": 2, "added": 2}
    assert again.stdout == "1 of 1 added\n"

    (marketing, everything) = orjson.loads(run("list", ADA, "--json").stdout)
    assert (marketing["address"], marketing["scope"], marketing["reason"]) == (
        "14155550123",
        "marketing",
        "complaint",
    )
    assert (everything["channel"], everything["source"]) == (None, "waemitter optout")
    assert run("list", "--reason", "complaint").stdout.startswith("14155550123\t-\tmarketing")

    assert run("remove", ADA, "--scope", "all").stdout == "1 of 1 removed\n"
    assert run("remove", ADA).exit_code == 0
    gone = run("remove", ADA, "--json")
    assert (gone.exit_code, orjson.loads(gone.stdout)) == (1, {"asked": 1, "removed": 0})


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", ADA, "0415 555 0123"], "country code"),
        (["remove", "nobody"], "neither a phone number"),
        (["list", "12"], "a phone number has 7 to 15"),
        (["add", ADA, "--channel", "shop"], "there is no channel shop"),
    ],
)
def test_what_is_no_number_or_no_channel_changes_nothing(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.replace("│", " ").split())
    assert run("list", "--json").stdout.strip() == "[]"
