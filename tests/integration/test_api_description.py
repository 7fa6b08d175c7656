"""`GET /api/openapi.json` is the truth: schemathesis calls every operation by it, rightly and wrongly."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import orjson
import pytest

from tests.shop import Shop, shop_at
from waemitter.web.scopes import SCOPES


@pytest.fixture
async def shop(dsn: str) -> AsyncIterator[Shop]:
    async with shop_at(dsn) as shop:
        yield shop


async def test_every_operation_is_described_with_its_scope_and_its_errors(shop: Shop) -> None:
    code, document = await shop.call("GET", "/api/openapi.json")
    assert code == 200
    assert document["openapi"].startswith("3.1")
    paths = document["paths"]
    assert {"/api/messages", "/api/messages/{id}", "/api/queue/status", "/webhooks/outbox"} <= set(
        paths
    )
    for methods in paths.values():
        for operation in methods.values():
            (security,) = operation["security"]
            assert set(security["key"]) <= set(SCOPES)
            assert {"401", "403", "429", "503"} <= set(operation["responses"])
    send = paths["/api/messages"]["post"]
    assert {"201", "200", "422", "413", "415", "400"} <= set(send["responses"])
    (header, trace) = send["parameters"]
    assert (trace["name"], trace["in"]) == ("traceparent", "header")
    assert (header["name"], header["in"], header["required"]) == (
        "Idempotency-Key",
        "header",
        False,
    )
    (path,) = paths["/api/messages/{id}"]["get"]["parameters"]
    assert (path["name"], path["in"], path["required"]) == ("id", "path", True)


async def test_every_reference_of_the_description_leads_somewhere(shop: Shop) -> None:
    _, document = await shop.call("GET", "/api/openapi.json")
    text = orjson.dumps(document).decode()
    schemas = document["components"]["schemas"]
    references = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references
    assert references <= set(schemas)


@pytest.mark.slow
async def test_the_api_keeps_to_its_description(dsn: str, tmp_path: Path) -> None:
    seconds = count()  # one between any two looks at it: else the wrong keys would be too many
    async with shop_at(dsn, keys={"s3cret": ["admin"]}, clock=lambda: next(seconds)) as shop:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "schemathesis"),
            *("run", f"{shop.site.url}/api/openapi.json"),
            *("--header", "Authorization: Bearer s3cret"),
            # What Meta refuses is refused here too, and no JSON schema can say that.
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--phases", "examples,coverage"),
            *("--generation-deterministic", "--suppress-health-check", "all", "--no-color"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        assert b"Tested: " in output
        assert await shop.count() > 0
        assert not shop.site.observed.lines("HTTP_REQUEST_FAILED")
