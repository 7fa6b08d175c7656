"""Seeded defects between a webhook and the end of its turn."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "a stale worker renews a turn",
        "schema.sql",
        "where b.id = turn_id and v.id = b.conversation_id and v.lock_id = renew_turn.lock_id and v.fence = renew_turn.fence;",
        "where b.id = turn_id and v.id = b.conversation_id and v.lock_id = renew_turn.lock_id;",
        ("tests/integration/test_stale_races.py", "-k", "conversations"),
    ),
    Mutant(
        "a stranger releases a conversation",
        "schema.sql",
        "where v.id = release_conversation_lock.conversation_id and v.lock_id = release_conversation_lock.lock_id;",
        "where v.id = release_conversation_lock.conversation_id;",
        ("tests/integration/test_stale_races.py", "-k", "conversations"),
    ),
    Mutant(
        "ack before commit",
        "waemitter/web/webhooks.py",
        "            await self._journal.record(source=SOURCE, body=body, headers=headers)",
        "            self._journal.record(source=SOURCE, body=body, headers=headers).close()",
        ("tests/integration/test_short_way.py",),
    ),
    Mutant(
        "ack before commit by the short way",
        "waemitter/web/webhooks.py",
        "            self._journal.enter(source=SOURCE, body=body, headers=kept, told=told)",
        "            self._journal.enter(source=SOURCE, body=body, headers=kept, told=print)\n            told(None)",
        ("tests/integration/test_short_way.py",),
    ),
    Mutant(
        "a digest of one header is taken for another's",
        "waemitter/web/short_way.py",
        "    if any(_CUT in part for part in parts):",
        "    if False:",
        ("tests/unit/test_short_way.py",),
    ),
    Mutant(
        "a request that two servers read in two ways",
        "waemitter/web/short_way.py",
        "        len(headers) != len(lines)  # one of them came twice",
        "        False",
        ("tests/unit/test_short_way.py",),
    ),
    Mutant(
        "any signature will do",
        "waemitter/whatsapp/signature.py",
        "genuine = hmac.compare_digest(sign(secret, raw).encode(), claimed)",
        "genuine = len(claimed) == 71",
        ("tests/unit/test_whatsapp_signature.py",),
    ),
    Mutant(
        "a batch of webhooks is not kept",
        "waemitter/inbox/splitter.py",
        "                await self._store.renew(ids, lease=LEASE)",
        "                pass",
        ("tests/integration/test_splitter.py", "-k", "kept_for_as_long"),
    ),
    Mutant(
        "a webhook's keys are not looked at",
        "waemitter/inbox/store.py",
        "on conflict do nothing returning whatsapp_message_id as id, field, scope)",
        "on conflict (whatsapp_message_id, field, scope) do update set scope = excluded.scope"
        " returning whatsapp_message_id as id, field, scope)",
        ("tests/integration/test_inbox_messages.py", "tests/integration/test_splitter.py"),
    ),
    Mutant(
        "a batch that fails, fails for all of it",
        "waemitter/runtime/together.py",
        "if len(batch) > 1 and not isinstance(error, DatabaseUnreachable):",
        "if False:",
        ("tests/unit/test_together.py",),
    ),
    Mutant(
        "who was cancelled is asked for",
        "waemitter/runtime/together.py",
        "self._waiting[: self._largest] if not each[1].done()]",
        "self._waiting[: self._largest]]",
        ("tests/unit/test_together.py",),
    ),
    Mutant(
        "the first alone is told of an outage",
        "waemitter/runtime/together.py",
        "for _, future in batch:\n                if not future.done():\n                    future.set_exception",
        "for _, future in batch[:1]:\n                if not future.done():\n                    future.set_exception",
        ("tests/unit/test_together.py",),
    ),
    Mutant(
        "who shares a cancelled statement waits for ever",
        "waemitter/runtime/together.py",
        "                future.cancel()",
        "                pass",
        ("tests/unit/test_together.py",),
    ),
    Mutant(
        "a locked conversation holds up all turns",
        "waemitter/turns/store.py",
        "order by v.id for no key update skip locked)",
        "order by v.id for no key update)",
        ("tests/integration/test_turns.py", "-k", "holds_up_no_other"),
    ),
    Mutant(
        "the budget of many turns is not looked at",
        "schema.sql",
        "select coalesce(c.tokens <= s.budget, true) from counted c",
        "select true from counted c",
        ("tests/integration/test_agent_accounts.py", "-k", "one_by_one"),
    ),
    Mutant(
        "what many turns may not use is not given back",
        "schema.sql",
        "array(select -e from unnest(estimates)",
        "array(select 0 from unnest(estimates)",
        ("tests/integration/test_agent_accounts.py", "-k", "one_by_one"),
    ),
    Mutant(
        "what was reserved counts beside what was used",
        "schema.sql",
        "s.input_tokens + s.output_tokens - s.reserved as tokens)",
        "s.input_tokens + s.output_tokens as tokens)",
        ("tests/integration/test_agent_accounts.py", "-k", "one_by_one"),
    ),
    Mutant(
        "commits side by side before a spool",
        "waemitter/inbox/journal/writer.py",
        "2 if self._spool is None else 1",
        "2",
        ("tests/unit/test_journal.py",),
    ),
    Mutant(
        "a second commit for every few bodies",
        "waemitter/inbox/journal/writer.py",
        "(WORTH_A_SECOND if self._writing else 1)",
        "1",
        ("tests/unit/test_journal.py",),
    ),
    Mutant(
        "dots after the answer",
        "waemitter/turns/worker.py",
        "typing=not answered.is_set())",
        "typing=True)",
        ("tests/integration/test_turns.py", "-k", "burst"),
    ),
    Mutant(
        "what two commits at once handed over is kept back",
        "waemitter/inbox/journal/handover.py",
        "return self.next(len(self._waiting))",
        "return self.next(MOST)",
        ("tests/unit/test_handover.py",),
    ),
    Mutant(
        "people get a note with every turn",
        "schema.sql",
        "if found and l.status is distinct from 'resolved' then return; end if;",
        "",
        ("tests/integration/test_chatwoot_transcript.py", "-k", "first_turn"),
    ),
    Mutant(
        "the note for people has the words that follow it",
        "schema.sql",
        "and b.conversation_id = i.conversation_id and b.id >= turn_id)",
        "and b.conversation_id = i.conversation_id and b.id > turn_id)",
        ("tests/integration/test_chatwoot_transcript.py", "-k", "first_turn"),
    ),
)
