"""Who wrote: people by phone number, by user id or by both, and groups, each once for a channel."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any, Final, TypeAlias

import asyncpg
import pytest

from tests.support import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NUMBER: Final = "330900000000007"
ADA: Final = "14155550123"
ADA_ID: Final = "US.77120000000000000011"
NOON: Final = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
MINUTE: Final = datetime.timedelta(minutes=1)

RECEIVE: Final = """
    select r.n, r.result, r.message_id, r.conversation_id, r.contact_id, r.channel
    from (select array[cardinality($2::text[])] as n) _, waemitter.receive_messages(
      numbers => $1, wamids => $2, types => array_fill('text'::text, n), wa_ids => $3, user_ids => $4,
      group_ids => $5, names => array_fill(null::text, n),
      usernames => array_fill(null::text, n), times => $6,
      opens => array_fill(true, n), payloads => array_fill('{}'::text, n),
      contacts => array_fill(null::text, n),
      webhook_ids => array_fill(null::bigint, n)) r
    order by r.n
"""


@pytest.fixture
async def channel(connection: Connection) -> Connection:
    await connection.execute("update waemitter.channels set phone_number_id = $1", NUMBER)
    return connection


async def contact(connection: Connection, *addresses: str | None, **more: Any) -> int:
    wa_id, user_id, *_ = (*addresses, None)
    return await found(connection, wa_id=wa_id, user_id=user_id, **more)


async def found(
    connection: Connection,
    *,
    wa_id: str | None = None,
    user_id: str | None = None,
    name: str | None = None,
    at: datetime.datetime | None = None,
) -> int:
    contact_id: int = await connection.fetchval(
        "select waemitter.contact_of('default', $1, $2, name => $3, at => $4)",
        wa_id,
        user_id,
        name,
        at,
    )
    return contact_id


async def receive(
    connection: Connection, *wamids: str, number: str = NUMBER, **who: Any
) -> list[Any]:
    """One row for each wamid, from the same sender; the fields of RECEIVE."""
    columns = [[who.get(key)] * len(wamids) for key in ("wa_id", "user_id", "group_id", "at")]
    rows = await connection.fetch(RECEIVE, [number] * len(wamids), list(wamids), *columns)
    return [tuple(row) for row in rows]


async def conversations(connection: Connection) -> list[asyncpg.Record]:
    return await connection.fetch(
        "select v.id, v.contact_id, v.last_inbound_at, c.wa_id, c.user_id, c.phone, c.group_id, c.joined_to"
        " from waemitter.conversations v join waemitter.contacts c on c.id = v.contact_id order by v.id"
    )


async def test_the_same_number_is_the_same_contact(channel: Connection) -> None:
    first = await contact(channel, ADA, name="Ada")
    assert await contact(channel, ADA) == first
    row = await channel.fetchrow("select wa_id, phone, user_id, name from waemitter.contacts")
    assert row is not None
    assert tuple(row) == (ADA, f"+{ADA}", None, "Ada")


async def test_a_name_that_changes_is_followed(channel: Connection) -> None:
    await contact(channel, ADA, name="Ada")
    await contact(channel, ADA, name="Ada L.")
    assert await channel.fetchval("select name from waemitter.contacts") == "Ada L."


async def test_who_goes_by_a_username_has_no_phone(channel: Connection) -> None:
    first = await contact(channel, None, ADA_ID)
    assert await contact(channel, None, ADA_ID) == first
    assert await channel.fetchval("select phone from waemitter.contacts") is None


async def test_a_phone_that_appears_beside_the_user_id_is_the_same_person(
    channel: Connection,
) -> None:
    first = await contact(channel, None, ADA_ID)
    assert await contact(channel, ADA, ADA_ID) == first
    assert await contact(channel, ADA) == first
    row = await channel.fetchrow("select wa_id, user_id from waemitter.contacts")
    assert row is not None
    assert tuple(row) == (ADA, ADA_ID)


async def test_a_contact_without_any_address_is_refused(channel: Connection) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await contact(channel, None, None)


async def test_two_contacts_that_turn_out_to_be_one_are_joined(channel: Connection) -> None:
    by_phone, by_id = (
        (await receive(channel, "w1", wa_id=ADA, at=NOON))[0],
        (await receive(channel, "w2", user_id=ADA_ID, at=NOON + MINUTE))[0],
    )
    assert by_phone[4] != by_id[4]
    (both,) = await receive(channel, "w3", wa_id=ADA, user_id=ADA_ID, at=NOON + 2 * MINUTE)
    assert both[3:5] == by_id[3:5]  # who wrote last has the conversation that lives on
    assert (await receive(channel, "w4", wa_id=ADA, at=NOON + 3 * MINUTE))[0][3] == by_id[3]
    old, kept = await conversations(channel)
    assert (old["joined_to"], kept["wa_id"], kept["user_id"]) == (by_id[4], ADA, ADA_ID)


async def test_a_humans_turn_goes_on_in_the_conversation_that_was_joined_to(
    channel: Connection,
) -> None:
    await receive(channel, "w1", wa_id=ADA, at=NOON)
    await channel.execute(
        "update waemitter.conversations set status = 'human', takeover_until = now() + interval '1 hour'"
    )
    await receive(channel, "w2", user_id=ADA_ID, at=NOON + MINUTE)
    await receive(channel, "w3", wa_id=ADA, user_id=ADA_ID, at=NOON + MINUTE)
    assert [
        tuple(row)
        for row in await channel.fetch(
            "select status, takeover_until > now() from waemitter.conversations order by id"
        )
    ] == [("human", True)] * 2


async def test_a_changed_number_is_followed(channel: Connection) -> None:
    (first,) = await receive(channel, "w1", wa_id=ADA, at=NOON)
    await follow(channel, first[4], former=[ADA], wa_id="14155550199", at=NOON + MINUTE)
    (later,) = await receive(channel, "w2", wa_id="14155550199", at=NOON + 2 * MINUTE)
    assert later[3] == first[3]
    assert await channel.fetchval("select wa_id from waemitter.contacts") == "14155550199"


async def test_a_number_that_was_given_up_may_get_another_owner(channel: Connection) -> None:
    (first,) = await receive(channel, "w1", wa_id=ADA, at=NOON)
    await follow(channel, first[4], former=[ADA], wa_id="14155550199", at=NOON + MINUTE)
    (late,) = await receive(channel, "w2", wa_id=ADA, at=NOON)  # written before the change
    assert late[3] == first[3]
    assert await channel.fetchval("select wa_id from waemitter.contacts") == "14155550199"
    (stranger,) = await receive(channel, "w3", wa_id=ADA, at=NOON + 2 * MINUTE)
    assert stranger[3] != first[3]
    assert (await receive(channel, "w4", wa_id=ADA, at=NOON + 3 * MINUTE))[0][3] == stranger[3]


async def test_a_number_change_that_comes_late_joins_what_was_written_since(
    channel: Connection,
) -> None:
    (first,) = await receive(channel, "w1", wa_id=ADA, at=NOON)
    (since,) = await receive(channel, "w2", wa_id="14155550199", at=NOON + 2 * MINUTE)
    assert since[3] != first[3]
    await follow(channel, first[4], former=[ADA], wa_id="14155550199", at=NOON + MINUTE)
    (now,) = await receive(channel, "w3", wa_id="14155550199", at=NOON + 3 * MINUTE)
    assert now[3] == since[3]
    assert (await conversations(channel))[0]["joined_to"] == since[4]


async def follow(
    connection: Connection, contact_id: int, *, former: list[str], wa_id: str, at: datetime.datetime
) -> None:
    await connection.execute(
        "select waemitter.follow_contact('default', $1, $2, $3, null, $4)",
        contact_id,
        former,
        wa_id,
        at,
    )


async def test_a_group_is_a_conversation_of_its_own(channel: Connection) -> None:
    (person,) = await receive(channel, "w1", wa_id=ADA)
    (group,) = await receive(channel, "w2", wa_id=ADA, group_id="Y2FwaV9ncm91cDox")
    (again,) = await receive(channel, "w3", wa_id="14155550177", group_id="Y2FwaV9ncm91cDox")
    assert group[3] == again[3] != person[3]
    assert [row["wa_id"] for row in await conversations(channel)] == [ADA, None]


async def test_last_inbound_at_only_moves_forward_and_never_beyond_now(channel: Connection) -> None:
    await receive(channel, "w1", wa_id=ADA, at=NOON)
    await receive(channel, "w2", wa_id=ADA, at=NOON - MINUTE)
    (row,) = await conversations(channel)
    assert row["last_inbound_at"] == NOON
    await receive(channel, "w3", wa_id=ADA, at=NOON.replace(year=9999))
    assert await channel.fetchval("select last_inbound_at <= now() from waemitter.conversations")


@pytest.mark.parametrize("recipient", [ADA, f"+{ADA}", "+1 (415) 555-0123", ADA_ID])
async def test_the_window_is_found_by_any_address(channel: Connection, recipient: str) -> None:
    await receive(channel, "w1", wa_id=ADA, user_id=ADA_ID, at=NOON)
    asked = "select waemitter.last_inbound_at('default', $1)"
    assert await channel.fetchval(asked, recipient) == NOON
    assert await channel.fetchval(asked, "14155550000") is None


async def test_a_message_is_received_once(channel: Connection) -> None:
    (first, again) = await receive(channel, "w1", "w1", wa_id=ADA)
    assert (first[1], again[1]) == ("received", "duplicate")
    assert (await receive(channel, "w1", wa_id=ADA))[0][1] == "duplicate"
    assert await channel.fetchval("select count(*) from waemitter.inbound_messages") == 1


async def test_a_message_for_an_unknown_number_leaves_no_trace(channel: Connection) -> None:
    (row,) = await receive(channel, "w1", number="1", wa_id=ADA)
    assert row[1] == "unknown_number"
    assert await channel.fetchval("select count(*) from waemitter.processed_webhook_messages") == 0
    await channel.execute("update waemitter.channels set phone_number_id = '1'")
    assert (await receive(channel, "w1", number="1", wa_id=ADA))[0][1] == "received"


async def test_messages_keep_the_order_in_which_they_came(channel: Connection) -> None:
    await receive(channel, "w3", "w1", "w2", wa_id=ADA)
    wamids = await channel.fetch(
        "select whatsapp_message_id from waemitter.inbound_messages order by id"
    )
    assert [row[0] for row in wamids] == ["w3", "w1", "w2"]


async def test_a_new_contact_that_two_transactions_meet_at_once_is_one(
    dsn: str, channel: Connection
) -> None:
    waiting = (
        "select exists (select from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock')"
    )
    other = await asyncpg.connect(dsn)
    transaction = channel.transaction()
    await transaction.start()
    mine = await contact(channel, ADA, ADA_ID)
    theirs = asyncio.create_task(contact(other, ADA))
    await eventually(lambda: channel.fetchval(waiting))
    await transaction.commit()
    assert await theirs == mine
    assert await channel.fetchval("select count(*) from waemitter.contacts") == 1
    await other.close()


async def test_keys_are_kept_eight_days_whatever_is_asked(channel: Connection) -> None:
    await receive(channel, "w1", "w2", wa_id=ADA)
    await channel.execute(
        "update waemitter.processed_webhook_messages set created_at = now() - case whatsapp_message_id"
        " when 'w1' then interval '7 days 23 hours' else interval '8 days 1 minute' end"
    )
    assert await channel.fetchval("select waemitter.purge_webhook_keys('1 day')") == 1
    kept = await channel.fetch(
        "select whatsapp_message_id from waemitter.processed_webhook_messages"
    )
    assert [row[0] for row in kept] == ["w1"]
