"""A row of every message type of the Cloud API becomes a request that the platform accepts."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import orjson
import pytest

from tests.simulator.test_validation import ACCEPTED
from waemitter.outbox.message import Echo, read_echo
from waemitter.outbox.store import OutboxStore
from waemitter.simulator import Options, Simulator
from waemitter.whatsapp.client import GraphClient, open_session
from waemitter.whatsapp.errors import Accepted, classify
from waemitter.whatsapp.requests import render

ENVELOPE = {"messaging_product", "to", "recipient", "type", "biz_opaque_callback_data"}


def row_of(body: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """What an application inserts to have this request sent: recipient, message_type, payload."""
    recipient = body.get("to") or body["recipient"]
    payload = {key: value for key, value in body.items() if key not in ENVELOPE}
    return recipient, body.get("type", "text"), payload


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
async def test_a_row_of_this_type_is_accepted(
    body: dict[str, Any], connection: asyncpg.Connection[asyncpg.Record], dsn: str
) -> None:
    recipient, message_type, payload = row_of(body)
    await connection.execute(
        "insert into waemitter.outbox_messages (recipient, message_type, payload) values ($1, $2, $3)",
        recipient,
        message_type,
        json.dumps(payload),
    )
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        stored, _ = await OutboxStore(pool).get(1) or ({}, [])
    echo = Echo(1, 7).text()
    request = render(
        recipient=stored["recipient"],
        message_type=stored["message_type"],
        payload=stored["payload"],
        echo=echo,
    )
    async with Simulator(Options()) as meta, open_session(connections=1) as session:
        client = GraphClient(
            session,
            base_url=meta.base_url,
            phone_number_id="111000111",
            access_token="token",
            total_timeout=5,
            connect_timeout=5,
        )
        answer = classify(await client.send(request))
        assert isinstance(answer, Accepted), answer
        (row,) = meta.ledger.rows()
    assert row.type == message_type
    assert read_echo(row.opaque) == Echo(1, 7)
    sent = orjson.loads(request)
    assert {key: sent[key] for key in payload} == payload
    if "to" in sent and payload.get("recipient_type") != "group":
        assert sent["to"].startswith("+")
