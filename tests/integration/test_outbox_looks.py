"""A claim looks at a few rows in a simple way first: it finds what the whole look would find, or leaves the rows to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.outbox_rows import Outbox, ahead, outbox_at
from waemitter.db.schema import Connection

FEW: Final = "v_few constant integer := 8;"
DEFINITION: Final = (
    "select pg_get_functiondef(oid) from pg_proc where proname = 'claim_messages' limit 1"
)
CLAIM: Final = """
    select message_id, attempt, slot, due, next_due, not_before, rate, lost, resent, held, clock
    from waemitter.{}('default', $1, '15 s', '0.2 s', '60 s', 'retry', 5)
"""
LEFT: Final = """
    select 'row ' || id as what, jsonb_build_array(status, hold, attempts, token = 7) as is,
           array[nullif(available_at, 'infinity'), due_at, claimed_at] as times
    from waemitter.outbox_messages
    union all select 'pair ' || address, null, array[tat] from waemitter.outbox_pairs
    union all select 'attempt of ' || message_id, to_jsonb(token), '{}' from waemitter.outbox_attempts
    union all select 'transition of ' || message_id, jsonb_build_array(from_status, to_status), '{}'
    from waemitter.outbox_transitions
    order by 1, 2
"""
PARK: Final = (
    "update waemitter.outbox_messages set available_at = 'infinity', hold = $2 where id = $1"
)
CLEAN: Final = """
    truncate waemitter.outbox_messages, waemitter.outbox_pairs, waemitter.outbox_attempts, waemitter.outbox_transitions,
             waemitter.suppressions, waemitter.held_templates, waemitter.campaigns restart identity cascade
"""

PEOPLE: Final = ("+14155550001", "14155550001", *(f"+1415555000{n}" for n in range(2, 8)))
WAITING: Final[dict[str, dict[str, Any]]] = {
    "new": {},
    "tried before": {"claimed_at": -300.0, "token": 7, "attempts": 1},
    "asked for again": {"token": 7, "attempts": 1},
    "later": {"available_at": 90.0},
    "too late": {"expires_at": -5.0},
    "with some time left": {"expires_at": 90.0},
    "being sent": {
        "status": "sending",
        "claimed_at": -4.0,
        "available_at": 8.0,
        "token": 7,
        "attempts": 1,
    },
    "lost": {
        "status": "sending",
        "claimed_at": -40.0,
        "available_at": -25.0,
        "token": 7,
        "attempts": 1,
    },
    "in its grace": {
        "status": "unconfirmed",
        "claimed_at": -40.0,
        "available_at": 40.0,
        "token": 7,
        "attempts": 1,
    },
    "parked": {"hold": "lane", "due_at": -9.0},
    "sent just now": {
        "status": "sent",
        "claimed_at": -2.0,
        "sent_at": -1.0,
        "available_at": None,
        "token": 7,
        "attempts": 1,
        "whatsapp_message_id": "wamid.1",
    },
}
"""How a row may lie there, by its columns; times in seconds from now."""

PLAIN: Final = {
    "recipient": "+14155550001",
    "ordering_key": None,
    "priority": 0,
    "message_type": "text",
    "campaign_id": None,
    "state": "new",
}
TWISTS: Final[list[dict[str, Any]]] = [
    *({"state": state} for state in WAITING),
    {"ordering_key": ""},
    {"ordering_key": "a"},
    {"priority": 5},
    {"message_type": "template"},
    {"campaign_id": 1},
]
ROW: Final = st.builds(
    lambda recipient, twist: PLAIN | {"recipient": recipient} | twist,
    st.sampled_from(PEOPLE),
    st.just({}) | st.sampled_from(TWISTS),
)
CALM: Final[dict[str, Any]] = {
    "suppressed": None,
    "template_held": False,
    "campaign": "running",
    "owing": None,
    "rate": 80.0,
    "pair_seconds": 6.0,
}
UNREST: Final[list[dict[str, Any]]] = [
    {"suppressed": "14155550001"},
    {"suppressed": "999"},
    {"template_held": True},
    {"campaign": "paused"},
    {"owing": "14155550001"},
    {"owing": "999"},
    {"rate": 0.0},
    {"pair_seconds": 0.0},
]
SCENE: Final = st.builds(
    lambda rows, limit, unrest: CALM | unrest | {"rows": rows, "limit": limit},
    # mostly so few that nothing may stand in their way, and more than a simple look takes
    st.lists(ROW, min_size=1, max_size=3) | st.lists(ROW, min_size=7, max_size=10),
    st.sampled_from([1, 2, 100, 100]),
    st.just({}) | st.sampled_from(UNREST),
)


@pytest.fixture
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox_at(dsn) as outbox:
        whole = (await outbox.pool.fetchval(DEFINITION)).replace("claim_messages", "claim_whole")
        assert whole.count(FEW) == 1
        await outbox.pool.execute(whole.replace(FEW, FEW.replace("8", "-1")))
        yield outbox


async def put(outbox: Outbox, row: dict[str, Any]) -> None:
    columns = {name: value for name, value in row.items() if name != "state"}
    columns |= {"available_at": -9.0} | WAITING[row["state"]]
    for name, value in columns.items():
        if isinstance(value, float):
            columns[name] = ahead(value)
    if row["message_type"] == "template":
        columns["payload"] = '{"template": {"name": "t"}}'
    hold = columns.pop("hold", None)
    message_id = await outbox.put(**columns)
    if hold:
        await outbox.pool.execute(PARK, message_id, hold)


async def set_up(outbox: Outbox, scene: dict[str, Any]) -> None:
    await outbox.pool.execute(CLEAN)
    await outbox.pool.execute("update waemitter.channel_buckets set tat = '-infinity'")
    await outbox.channel(messages_per_second=scene["rate"], pair_seconds=scene["pair_seconds"])
    await outbox.pool.execute(
        "insert into waemitter.campaigns (name, status) values ('May', $1)", scene["campaign"]
    )
    for row in scene["rows"]:
        await put(outbox, row)
    if scene["suppressed"]:
        await outbox.pool.execute(
            "insert into waemitter.suppressions (address, reason) values ($1, 'STOP')",
            scene["suppressed"],
        )
    if scene["template_held"]:
        await outbox.pool.execute(
            "insert into waemitter.held_templates (channel, template, language, reason) values ('default', 't', '', 'x')"
        )
    if scene["owing"]:
        await outbox.pool.execute(
            "insert into waemitter.outbox_pairs (channel, address, tat) values ('default', $1, $2)",
            scene["owing"],
            ahead(3),
        )


async def found(
    connection: Connection, function: str, limit: int
) -> tuple[list[object], list[float]]:
    """What a claim brings and leaves behind: all that is no time, and the times in seconds from its own; nothing of it stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        claimed = await connection.fetch(CLAIM.format(function), limit)
        left = await connection.fetch(LEFT)
    finally:
        await transaction.rollback()
    last = claimed[-1]
    order = sorted(claimed[:-1], key=lambda row: (row["slot"], row["message_id"]))
    times = [time for row in order for time in (row["slot"], row["due"])]
    times += [last["next_due"], last["not_before"]]
    times += [time and time.timestamp() for row in left for time in row["times"]]
    told: list[object] = [(row["message_id"], row["attempt"]) for row in order]
    told += [last[name] for name in ("rate", "lost", "resent", "held")]
    told += [(row["what"], row["is"]) for row in left]
    told += [time is None for time in times]
    return told, [time - last["clock"] for time in times if time is not None]


async def both_look(outbox: Outbox, scene: dict[str, Any]) -> None:
    await set_up(outbox, scene)
    async with outbox.pool.acquire() as connection:
        simple = await found(connection, "claim_messages", scene["limit"])
        whole = await found(connection, "claim_whole", scene["limit"])
    assert simple[0] == whole[0], scene
    assert simple[1] == pytest.approx(whole[1], abs=0.1), scene


@pytest.mark.parametrize("unrest", [{}, *UNREST], ids=lambda unrest: ", ".join(unrest) or "nothing")
async def test_whatever_stands_in_the_way_of_one_is_seen(
    outbox: Outbox, unrest: dict[str, Any]
) -> None:
    another = PLAIN | {"recipient": "+14155550002"}
    for twist in [{}, {"recipient": "14155550002"}, *TWISTS]:
        for beside in (another, PLAIN):
            scene = {"rows": [PLAIN | twist, beside], "limit": 100}
            await both_look(outbox, CALM | unrest | scene)
    scene = {"rows": [PLAIN, another], "limit": 1}
    await both_look(outbox, CALM | unrest | scene)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(scene=SCENE)
async def test_both_looks_find_the_same(outbox: Outbox, *, scene: dict[str, Any]) -> None:
    await both_look(outbox, scene)
