"""What the platform saw and what the database says, held against each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.chaos.havoc import RATE, Havoc
from tests.chaos.schedule import KINDS
from tests.e2e.scene import Scene

WINDOW: Final = (
    10  # seconds over which the rate is judged: what this machine shakes weighs little in it
)
WIRE_FAULTS: Final = (
    *("drop_before", "hang_before", "html_5xx"),
    *("drop_after", "hang_after", "html_5xx_after", "cut_reply"),
)
ROWS: Final = """
    select id, lane, status, attempts, hold, error_code, error_message, whatsapp_message_id
    from waemitter.outbox_messages order by id
"""
COUNTS: Final = """
    select
      (select count(*) from waemitter.outbox_transitions
       where detail ->> 'reason' = 'two attempts were accepted') as doubled,
      (select count(*) from waemitter.outbox_transitions
       where from_status = 'unconfirmed' and to_status = 'queued') as resent,
      (select count(*) from waemitter.outbox_transitions
       where from_status = 'unconfirmed' and detail ->> 'by' = 'status webhook') as confirmed,
      (select count(*) from waemitter.webhook_logs) as journalled,
      (select count(*) from waemitter.webhook_logs where processed_at is null) as unprocessed,
      (select count(*) from waemitter.inbound_messages) as inbound,
      (select count(distinct whatsapp_message_id) from waemitter.inbound_messages) as inbound_distinct,
      (select count(*) from waemitter.dead_letters) as letters,
      (select count(*) from waemitter.outbox_messages where available_at is not null) as queued
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is counted, on either side."""

    counts: Mapping[str, int]
    report: Mapping[str, Any]

    @property
    def at_rest(self) -> bool:
        """Nothing is on its way any more, in either direction."""
        return (
            self.counts["queued"] == 0
            and self.counts["unprocessed"] == 0
            and self.counts["inbound"] == self.report["customer_messages"]
            and self.counts["doubled"] == self.report["duplicates"]
        )


@dataclass(frozen=True, slots=True)
class Evidence(Figures):
    """`accepted`: the platform's ledger, in its order."""

    rows: Sequence[Mapping[str, Any]]
    accepted: Sequence[Mapping[str, Any]]


async def counted(scene: Scene) -> Figures:
    (counts,) = await scene.fetch(COUNTS)
    return Figures(dict(counts), await scene.report())


async def gathered(scene: Scene) -> Evidence:
    accepted: list[Mapping[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = await scene.control("GET", f"messages?limit=10000&after={after}")
        accepted += page["messages"]
        after = page["next"]
    rows = [dict(row) for row in await scene.fetch(ROWS)]
    figures = await counted(scene)
    return Evidence(figures.counts, figures.report, rows, accepted)


def complaints(evidence: Evidence, havoc: Havoc) -> Iterator[str]:
    """Every promise that was broken, in words; and every fault that never happened, since it proved nothing."""
    yield from _lost(evidence, havoc.enqueued)
    yield from _doubled(evidence)
    yield from _too_fast(evidence)
    yield from _out_of_order(evidence)
    yield from _inbound(evidence)
    yield from _unfired(evidence, havoc)
    if any(havoc.exits):
        yield f"daemons that were asked to end ended with {havoc.exits}"
    left = [str(path) for spool in havoc.spools for path in spool.glob("*.spool")]
    if left:
        yield f"still in the spool: {left}"


def _lost(evidence: Evidence, enqueued: int) -> Iterator[str]:
    if len(evidence.rows) != enqueued:
        yield f"{enqueued} rows were committed, {len(evidence.rows)} are there"
    if evidence.report["distinct"] != enqueued:
        yield f"{enqueued} messages were to be sent, the platform has {evidence.report['distinct']}"
    known = {message["wamid"] for message in evidence.accepted}
    for row in evidence.rows:
        if row["status"] not in {"sent", "delivered", "read"}:
            told = f"held by {row['hold']}, {row['error_code']} {row['error_message']}, {row['attempts']} attempts"
            yield f"message {row['id']} is {row['status']}: {told}"
        elif row["whatsapp_message_id"] not in known:
            yield f"message {row['id']} is {row['status']}, and the platform never had it"
    if evidence.counts["letters"]:
        yield f"{evidence.counts['letters']} dead letters"


def _doubled(evidence: Evidence) -> Iterator[str]:
    doubled, counted = evidence.report["duplicates"], evidence.counts["doubled"]
    if doubled != counted:
        yield f"{doubled} messages were doubled, {counted} are counted"
    if doubled > evidence.counts["resent"]:
        yield f"{doubled} were doubled, and the policy sent only {evidence.counts['resent']} again"


def _too_fast(evidence: Evidence) -> Iterator[str]:
    arrived = [message["arrived"] for message in evidence.accepted]
    first = 0
    for last, at in enumerate(arrived):
        while arrived[first] <= at - WINDOW:
            first += 1
        if last - first + 1 > RATE * WINDOW:
            yield f"{last - first + 1} messages within {WINDOW} s, at {RATE} a second"
            return


def _out_of_order(evidence: Evidence) -> Iterator[str]:
    """By the first acceptance of each message."""
    first: dict[str, int] = {}
    for place, message in enumerate(evidence.accepted):
        first.setdefault(message["fingerprint"], place)
    places = {message["wamid"]: first[message["fingerprint"]] for message in evidence.accepted}
    lanes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in evidence.rows:
        if row["lane"] and row["whatsapp_message_id"] in places:
            lanes[row["lane"]].append((row["id"], places[row["whatsapp_message_id"]]))
    for one in lanes.values():
        for (earlier, at), (later, then) in pairwise(one):
            if at > then:
                yield f"message {later} left before {earlier}, of the same lane"


def _inbound(evidence: Evidence) -> Iterator[str]:
    counts, webhooks = evidence.counts, evidence.report["webhooks"]
    if counts["unprocessed"]:
        yield f"{counts['unprocessed']} webhooks are stored, and were never worked off"
    if counts["journalled"] < webhooks["acked"]:
        yield f"{webhooks['acked']} webhooks got their 200, {counts['journalled']} are stored"
    if webhooks["given_up"]:
        yield f"the platform gave up {webhooks['given_up']} webhooks"
    wrote = evidence.report["customer_messages"]
    if not counts["inbound"] == counts["inbound_distinct"] == wrote:
        yield f"customers wrote {wrote} messages, {counts['inbound']} are kept"


def _unfired(evidence: Evidence, havoc: Havoc) -> Iterator[str]:
    report = evidence.report
    fired = {kind: havoc.evidence[kind] for kind in KINDS} | {
        fault: report["faults"].get(fault, 0) for fault in WIRE_FAULTS
    }
    fired |= {code: report["refused_by_code"].get(code, 0) for code in ("131016", "2", "131056")}
    fired |= {
        "redelivery": report["webhooks"]["redelivered"],
        "a customer's message": report["customer_messages"],
        "an outcome told by a webhook": evidence.counts["confirmed"],
    }
    for fault, times in fired.items():
        if not times:
            yield f"never happened: {fault}"
