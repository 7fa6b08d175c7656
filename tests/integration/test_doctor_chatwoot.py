"""What `waemitter doctor` finds of Chatwoot."""

from __future__ import annotations

import pytest

from tests.chatwoot import ACCOUNT, TOKEN, chatwoot
from waemitter.ops.doctor.chatwoot import chatwoot_findings
from waemitter.settings import load


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ("ok", "chatwoot (inbox 5): its conversations are listed", None)),
        (
            {"CHATWOOT_API_TOKEN": "another"},
            ("problem", "chatwoot (inbox 5): it answers 401", "CHATWOOT_API_TOKEN"),
        ),
        (
            {"CHATWOOT_ACCOUNT_ID": "9"},
            ("problem", "chatwoot (inbox 5): it answers 404", "CHATWOOT_ACCOUNT_ID"),
        ),
        (
            {"CHATWOOT_BASE_URL": "http://127.0.0.1:1"},
            ("problem", "chatwoot (inbox 5): it does not answer", "CHATWOOT_BASE_URL"),
        ),
    ],
    ids=["fine", "token", "account", "away"],
)
async def test_each_inbox_is_asked_for(
    changes: dict[str, str], told: tuple[str, str, str | None]
) -> None:
    async with chatwoot() as fake:
        environ = {
            "CHATWOOT_BASE_URL": fake.url,
            "CHATWOOT_ACCOUNT_ID": str(ACCOUNT),
            "CHATWOOT_API_TOKEN": TOKEN,
            "WAEMITTER_CHATWOOT__INBOX_ID": "5",
        }
        settings = load(environ=environ | changes, config=None, overrides={}).settings

        [found] = [each async for each in chatwoot_findings(settings)]

        verdict, said, remedy = told
        assert found.verdict == verdict
        assert found.said.startswith(said)
        assert remedy is None or remedy in (found.remedy or "")


async def test_without_a_chatwoot_nothing_is_said() -> None:
    settings = load(environ={}, config=None, overrides={}).settings

    assert [each async for each in chatwoot_findings(settings)] == []
