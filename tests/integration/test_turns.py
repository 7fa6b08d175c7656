"""A customer's burst becomes one turn, handled once and answered once, whatever dies on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support import eventually
from tests.turns_bench import ADA, BOB, Script, talking, text
from waemitter.inbox.windows import OFF, Window
from waemitter.turns.turn import Answer, Session, Turn


async def test_a_burst_is_one_turn_with_one_answer(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.hear("wamid.2", "wamid.3")
        assert await talk.work() == 0  # the window is open

        await talk.turn()

        (turn,) = talk.script.turns
        assert [message["id"] for message in turn.messages] == ["wamid.1", "wamid.2", "wamid.3"]
        assert turn.text == "hello\nhello\nhello"
        assert (turn.attempt, turn.channel, turn.route) == (1, "default", "script")
        assert turn.contact.phone == f"+{ADA}"
        assert await talk.replies() == ["you said: hello\nhello\nhello"]
        assert await talk.buffers() == [("completed", 3)]
        assert await talk.status() == "idle"
        assert talk.script.marked == [("wamid.3", False)]  # read; the answer was quicker than dots
        row = await talk.pool.fetchrow("select * from waemitter.outbox_messages")
        assert row is not None
        assert row["recipient"] == f"+{ADA}"
        assert row["idempotency_key"] == f"turn:{turn.turn_id}:1"
        assert row["correlation_id"] == turn.correlation_id
        assert talk.bench.observed.value("turns_total", route="script", outcome="answered") == 1
        assert talk.bench.observed.value("buffer_flushes_total", reason="time") == 1
        assert await talk.work() == 0


async def test_a_reply_that_cannot_be_kept_harms_none_that_ends_with_it(dsn: str) -> None:
    async with talking(dsn) as talk:
        together = asyncio.Barrier(4)

        async def at_once(turn: Turn) -> Answer:
            await together.wait()
            kind = "x" * 65 if turn.contact.phone == f"+{ADA}" else "text"
            return Answer(messages=[text(str(turn.contact.phone)) | {"type": kind}])

        talk.script.answer = at_once
        others = [f"1415555{n:04}" for n in (200, 201, 202)]
        for n, sender in enumerate([ADA, *others]):
            await talk.hear(f"wamid.{n}", sender=sender)
        await talk.due()
        assert await talk.work() == 4

        assert sorted(await talk.replies()) == [f"+{sender}" for sender in others]
        assert sorted(await talk.buffers()) == [("completed", 1)] * 3 + [("failed", 1)]
        stage = await talk.pool.fetchval("select stage from waemitter.dead_letters")
        assert stage == "commit"


async def test_a_conversation_that_is_locked_holds_up_no_other_turn(dsn: str) -> None:
    async with talking(dsn) as talk, talk.pool.acquire() as application:
        await talk.hear("wamid.1", sender=ADA)
        await talk.hear("wamid.2", sender=BOB)
        await talk.due()
        claimed = (await talk.worker.claim(10)).rows
        ada, bob = sorted(claimed, key=lambda turn: turn.conversation_id)
        async with application.transaction():
            await application.execute(
                "select from waemitter.conversations where id = $1 for update", ada.conversation_id
            )
            held = asyncio.create_task(talk.worker.work(ada))
            await eventually(lambda: len(talk.script.turns) == 1)
            await talk.worker.work(bob)
            assert not held.done()
            assert await talk.replies() == ["you said: hello"]
        await held
        assert await talk.replies() == ["you said: hello"] * 2
        assert await talk.buffers() == [("completed", 1)] * 2


async def test_an_answer_that_takes_its_time_is_announced_by_dots(dsn: str) -> None:
    async with talking(dsn) as talk:

        async def after_the_dots(_turn: Turn) -> Answer:
            await eventually(lambda: talk.script.marked)
            return Answer(messages=[text("now")])

        talk.script.answer = after_the_dots
        await talk.hear("wamid.1")
        await talk.turn()
        assert talk.script.marked == [("wamid.1", True)]
        assert await talk.replies() == ["now"]


async def test_two_customers_do_not_share_a_window(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1", sender=ADA)
        await talk.hear("wamid.2", sender=BOB)
        await talk.due()

        assert await talk.work() == 2
        assert {turn.contact.wa_id for turn in talk.script.turns} == {ADA, BOB}


async def test_messages_stand_in_the_order_of_metas_clock(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.late", timestamp="1793700445")
        await talk.hear("wamid.early", timestamp="1793700441")
        await talk.turn()

        ids = [message["id"] for message in talk.script.turns[0].messages]
        assert ids == ["wamid.early", "wamid.late"]


async def test_a_window_that_is_full_closes_and_the_next_message_opens_another(dsn: str) -> None:
    async with talking(dsn, Script(window=Window(max_size=2))) as talk:
        await talk.hear("wamid.1", "wamid.2", "wamid.3")

        assert await talk.buffers() == [("processing", 2), ("open", 1)]
        assert await talk.work() == 1
        assert talk.bench.observed.value("buffer_flushes_total", reason="size") == 1


@pytest.mark.parametrize(
    "message",
    [
        {"type": "button", "button": {"text": "Yes", "payload": "yes"}},
        {"type": "interactive", "interactive": {"button_reply": {"id": "1", "title": "Yes"}}},
        {"type": "interactive", "interactive": {"list_reply": {"id": "1", "title": "Yes"}}},
    ],
    ids=["template button", "button", "list"],
)
async def test_a_tap_closes_the_window_and_takes_along_what_was_said_before(
    dsn: str, message: dict[str, Any]
) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.hear("wamid.2", **message)

        assert await talk.work() == 1
        assert talk.script.turns[0].text == "hello\nYes"


async def test_without_windows_each_message_is_a_turn_in_its_order(dsn: str) -> None:
    async with talking(dsn, Script(window=OFF)) as talk:
        await talk.hear("wamid.1", "wamid.2")

        assert await talk.work() == 2

        ids = [turn.messages[0]["id"] for turn in talk.script.turns]
        assert ids == ["wamid.1", "wamid.2"]
        assert len(await talk.replies()) == 2


@pytest.mark.parametrize("flag", ["message_buffering", "enhanced_processing"])
async def test_the_switches_turn_windows_off_at_once(dsn: str, flag: str) -> None:
    async with talking(dsn) as talk:
        await talk.pool.execute(
            "update waemitter.feature_flags set is_enabled = false where flag_name = $1", flag
        )
        await talk.hear("wamid.1")

        assert await talk.work() == 1


async def test_while_processing_is_switched_off_buffers_fill_and_wait(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.pool.execute("select waemitter.toggle_buffer_processing(false)")
        await talk.hear("wamid.1")
        await talk.due()
        claim = await talk.worker.claim(10)
        assert (claim.rows, claim.next_due) == ([], None)
        await talk.hear("wamid.2")

        await talk.pool.execute("select waemitter.toggle_buffer_processing(true)")

        await talk.turn()
        assert len(talk.script.turns[0].messages) == 2


async def test_an_operator_closes_every_window(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        assert await talk.value("select waemitter.trigger_buffer_processing()") == 1
        assert await talk.work() == 1
        assert talk.bench.observed.value("buffer_flushes_total", reason="trigger") == 1


@pytest.mark.parametrize("kind", ["reaction", "system", "edit", "revoke", "request_welcome"])
async def test_what_asks_for_no_answer_opens_no_window(dsn: str, kind: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1", type=kind)

        assert await talk.buffers() == []
        assert await talk.bench.count("inbound_messages") == 1


async def test_a_group_is_kept_and_not_answered(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1", group_id="Y2FwaV9ncm91cDox")

        assert await talk.buffers() == []
        assert await talk.bench.count("inbound_messages") == 1


async def test_a_sliding_window_counts_from_the_last_message_up_to_its_age(dsn: str) -> None:
    script = Script(window=Window(mode="sliding", duration=30, max_age=40))
    async with talking(dsn, script) as talk:
        closes = "select extract(epoch from closes_at - buffer_start_time)::float8 from waemitter.message_buffer"
        await talk.hear("wamid.1")
        assert await talk.value(closes) == pytest.approx(30, abs=0.01)
        shift = "update waemitter.message_buffer set {} = {} - interval '5 seconds'"
        for column in ("buffer_start_time", "closes_at", "oldest_at"):
            await talk.pool.execute(shift.format(column, column))
        await talk.hear("wamid.2")
        assert 34.9 < await talk.value(closes) < 40
        for column in ("buffer_start_time", "closes_at", "oldest_at"):
            await talk.pool.execute(shift.format(column, column))
        await talk.hear("wamid.3")
        assert await talk.value(closes) == pytest.approx(40, abs=0.01)


async def test_a_contact_is_answered_so_many_messages_a_minute_and_the_rest_is_kept(
    dsn: str,
) -> None:
    async with talking(dsn) as talk:
        await talk.hear(*(f"wamid.{n}" for n in range(25)))

        assert await talk.buffers() == [("open", 20)]
        assert await talk.bench.count("inbound_messages") == 25
        assert talk.bench.observed.value("turns_total", route="none", outcome="rate_limited") == 5
        await talk.pool.execute(
            "update waemitter.conversations set rate_since = rate_since - interval '1 minute'"
        )
        await talk.hear("wamid.25")
        assert await talk.buffers() == [("open", 21)]


async def test_a_message_that_comes_twice_is_in_the_window_once(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.hear("wamid.1")

        assert await talk.buffers() == [("open", 1)]


async def test_nobody_answers_without_a_route(dsn: str) -> None:
    async with talking(dsn, Script(silent=True)) as talk:
        await talk.hear("wamid.1")
        await talk.turn()

        assert await talk.buffers() == [("completed", 1)]
        assert await talk.replies() == []
        assert talk.bench.observed.value("turns_total", route="none", outcome="silent") == 1


async def test_while_a_human_answers_the_bot_is_silent_and_keeps_what_was_said(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.pool.execute(
            "update waemitter.conversations set status = 'human', takeover_until = now() + interval '1 hour'"
        )
        await talk.turn()

        assert talk.script.turns == []
        assert await talk.bench.count("buffered_messages") == 1
        assert await talk.value("select outcome from waemitter.message_buffer") == "human"
        assert await talk.status() == "human"
        assert talk.bench.observed.value("turns_total", route="none", outcome="human") == 1


async def test_a_human_who_comes_in_while_the_bot_works_has_the_last_word(dsn: str) -> None:
    async with talking(dsn) as talk:

        async def answer(_: Turn) -> Answer:
            await talk.pool.execute(
                "update waemitter.conversations set takeover_until = now() + interval '1 hour'"
            )
            return Answer(messages=[text("too late")])

        talk.script.answer = answer
        await talk.hear("wamid.1")
        await talk.turn()

        assert len(talk.script.turns) == 1
        assert await talk.replies() == []
        assert await talk.status() == "human"


async def test_a_handler_hands_over_to_a_human(dsn: str) -> None:
    async def answer(_: Turn) -> Answer:
        return Answer(messages=[text("A colleague will answer")], handover=True)

    async with talking(dsn, Script(answer)) as talk:
        await talk.hear("wamid.1")
        await talk.turn()

        assert await talk.replies() == ["A colleague will answer"]
        assert await talk.status() == "human"
        assert await talk.value("select takeover_until > now() from waemitter.conversations")


async def test_a_session_is_written_read_and_ended(dsn: str) -> None:
    async with talking(dsn, Script(service="rides")) as talk:
        select = "select active_service, context::text, phone_number from waemitter.user_sessions"

        await talk.hear("wamid.1")
        await talk.turn()
        assert tuple(await talk.pool.fetchrow(select) or ()) == ("rides", "{}", f"+{ADA}")

        async def remember(turn: Turn) -> Answer:
            assert turn.session == Session("rides", {})
            return Answer(session=Session("rides", {"from": "airport"}))

        talk.script.answer = remember
        await talk.hear("wamid.2")
        await talk.turn()
        assert tuple(await talk.pool.fetchrow(select) or ())[:2] == (
            "rides",
            '{"from": "airport"}',
        )

        talk.script.answer, talk.script.service, talk.script.ends_session = None, None, True
        await talk.hear("wamid.3")
        await talk.turn()
        assert talk.script.turns[-1].session == Session()
        assert tuple(await talk.pool.fetchrow(select) or ())[:2] == (None, "{}")


async def test_a_session_whose_time_is_over_is_not_read(dsn: str) -> None:
    async with talking(dsn, Script(service="rides")) as talk:
        await talk.hear("wamid.1")
        await talk.turn()
        await talk.pool.execute(
            "update waemitter.user_sessions set last_interaction = now() - interval '25 hours'"
        )
        await talk.hear("wamid.2")
        await talk.turn()

        assert talk.script.turns[1].session == Session()


async def test_every_change_of_a_conversations_status_is_told(dsn: str) -> None:
    async with talking(dsn) as talk:
        await talk.hear("wamid.1")
        await talk.turn()

        rows = await talk.pool.fetch(
            "select from_status, to_status from waemitter.conversation_state_transitions order by id"
        )
        assert [tuple(row) for row in rows] == [
            ("idle", "buffering"),
            ("buffering", "processing"),
            ("processing", "idle"),
        ]
