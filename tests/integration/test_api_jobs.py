"""`/api/jobs…`: what there is, run one now, and the older addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.shop import Shop, shop_at
from waemitter.jobs.store import Run


@pytest.fixture
async def shop(dsn: str) -> AsyncIterator[Shop]:
    async with shop_at(dsn, keys={"cron": ["trigger", "jobs"], "eye": ["read"]}) as shop:
        yield shop


CRON = {"Authorization": "Bearer cron"}


async def test_a_job_answers_its_own_summary(shop: Shop) -> None:
    code, document = await shop.call("POST", "/api/jobs/dlq-processor/run", **CRON)
    assert (code, document) == (200, {"success": True, "processed": 0, "durationMs": 1})


@pytest.mark.parametrize("prefix", ["", "/functions/v1"])
@pytest.mark.parametrize("name", ["dlq-processor", "session-cleanup", "buffer-processor"])
async def test_the_older_addresses_answer_too(shop: Shop, prefix: str, name: str) -> None:
    code, document = await shop.call("POST", f"{prefix}/{name}", {}, **CRON)
    assert (code, document["success"]) == (200, True)
    actions = await shop.outbox.pool.fetch("select action, key_name from waemitter.audit_log")
    assert len(actions) == 1


async def test_all_jobs_with_when_and_how(shop: Shop) -> None:
    await shop.outbox.pool.execute(
        "insert into waemitter.jobs (name, schedule, next_run_at)"
        " values ('retention', '0 2 * * *', now() + interval '4 minutes 30 seconds');"
        "insert into waemitter.job_runs (job_name, status, summary, started_at, finished_at)"
        """ values ('retention', 'succeeded', '{"deleted": 3}', now(), now())"""
    )
    code, document = await shop.call("GET", "/api/jobs", **CRON)
    (job,) = document["jobs"]
    assert code == 200
    assert (job["name"], job["scheduleWords"]) == ("retention", "at 02:00 every day (UTC)")
    assert (job["enabled"], job["running"], job["lastStatus"]) == (True, False, "succeeded")
    assert job["lastSummary"] == {"deleted": 3}
    assert job["nextRun"].startswith("in 4 minutes")


async def test_who_may_not_and_what_is_not_there(shop: Shop) -> None:
    code, _ = await shop.call("POST", "/dlq-processor", Authorization="Bearer eye")
    assert code == 403
    code, _ = await shop.call("POST", "/api/jobs/dlq-processor/run")
    assert code == 401
    code, document = await shop.call("POST", "/api/jobs/nothing/run", **CRON)
    assert (code, document["detail"]) == (404, "There is no job nothing.")


@pytest.mark.parametrize(("status", "code"), [("running", 202), ("starting", 202), ("failed", 503)])
async def test_a_run_that_is_not_over_or_failed_says_so(shop: Shop, status: str, code: int) -> None:
    shop.jobs.run_of = Run(17, "retention", status, None, None)
    answered, document = await shop.call("POST", "/api/jobs/retention/run", **CRON)
    assert answered == code
    if code == 202:
        assert document == {"success": True, "runId": 17, "status": status}
    else:
        assert "run 17" in document["detail"]
