"""What deploy/ tells Prometheus and Grafana is true: metrics, labels, commands; checked by promtool too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from tests.deploying import DEPLOY, assert_runs, documents, run, services
from waemitter.jobs.alerts.rules import JOB_PATIENCE, LEAST_REFUSED, ONLY_HERE, RULES, Limits
from waemitter.observe.metrics import JOBS, OTHER, Metrics
from waemitter.settings import load

DASHBOARDS: Final = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))


def exposed() -> dict[str, frozenset[str]]:
    """Every sample's name that the daemon exposes, with its labels; bucket, sum and count included."""
    metrics = Metrics(CollectorRegistry())
    found: dict[str, frozenset[str]] = {}
    for family in metrics._families:
        labels = frozenset(family._labels)
        name = family._name
        for suffix in ("", "_bucket", "_sum", "_count"):
            found[name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def queries() -> Iterator[tuple[str, str]]:
    for path in sorted((DEPLOY / "prometheus").glob("rules*.yaml")):
        for group in documents(path)[0].get("groups", ()):
            yield from ((rule["alert"], rule["expr"]) for rule in group["rules"])
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for variable in board["templating"]["list"]:
            yield variable["name"], variable["query"]
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                yield panel["title"], target["expr"]


@pytest.mark.parametrize(("name", "query"), [*queries()], ids=lambda value: value[:40])
def test_a_query_asks_for_metrics_and_labels_that_exist(name: str, query: str) -> None:
    known = exposed()
    metrics = re.findall(r"(waemitter_\w+)(?:\{([^}]*)\})?", query)
    assert metrics or query.count("process_"), name
    for metric, selector in metrics:
        assert metric in known, metric
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert asked <= known[metric]


def test_every_alert_says_what_to_do() -> None:
    (document,) = documents(DEPLOY / "prometheus/rules.yaml")
    for group in document["groups"]:
        for rule in group["rules"]:
            assert set(rule["annotations"]) == {"summary", "action"}
            assert rule["labels"]["severity"] in {"page", "ticket"}
            for command in re.findall(r"`waemitter ([a-z ]+)", rule["annotations"]["action"]):
                assert_runs(command.split())


@pytest.mark.tool("promtool", package="prometheus")
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yaml"),
        ("check", "rules", "rules.yaml"),
        ("test", "rules", "rules.test.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    *command, name = arguments
    found = run("promtool", *command, str(DEPLOY / "prometheus" / name))
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_is_whole(path: Path) -> None:
    board = json.loads(path.read_text())
    (provisioned,) = documents(DEPLOY / "grafana/provisioning/datasources/prometheus.yaml")
    known = {source["uid"] for source in provisioned["datasources"]}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] in known
            assert panel["fieldConfig"]["defaults"]["unit"]


def test_grafana_looks_for_dashboards_where_compose_puts_them() -> None:
    (providers,) = documents(DEPLOY / "grafana/provisioning/dashboards/waemitter.yaml")
    places = {provider["options"]["path"] for provider in providers["providers"]}
    mounts = {volume.split(":")[1] for volume in services()["grafana"]["volumes"]}
    assert places <= mounts


ALERTS: Final = {
    rule["alert"]: rule
    for group in documents(DEPLOY / "prometheus/rules.yaml")[0]["groups"]
    for rule in group["rules"]
}
ONLY_THERE: Final = {"WaemitterAbsent"}  # no daemon tells that there is none
THRESHOLDS: Final = {
    "WaemitterBacklogOld": Limits().oldest_due,
    "WaemitterSendsFail": Limits().failure_ratio,
    "WaemitterDeliveryLow": Limits().undelivered_ratio,
    "WaemitterDeadLetters": Limits().dead_letters,
    "WaemitterConversationsStuck": Limits().stuck,
    "WaemitterWebhooksSlow": Limits().p95,
    "WaemitterSloMissed": Limits().slo_p95,
    "WaemitterWebhooksRefused": LEAST_REFUSED,
    "WaemitterEventLoopLags": Limits().loop_lag,
    "WaemitterSnapshotHeld": Limits().snapshot,
}
UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}


def test_prometheus_and_the_daemon_know_the_same_alerts() -> None:
    assert set(ALERTS) - ONLY_THERE == set(RULES) - ONLY_HERE


@pytest.mark.parametrize("name", sorted(set(RULES) - ONLY_HERE))
def test_an_alert_is_the_same_in_prometheus_and_in_the_daemon(name: str) -> None:
    ours, theirs = RULES[name], ALERTS[name]
    held = re.fullmatch(r"(\d+)([smh]?)", str(theirs.get("for", 0)))
    assert held is not None
    assert int(held[1]) * UNITS[held[2]] == ours.hold
    assert theirs["labels"]["severity"] == ours.severity
    assert theirs["annotations"]["action"] == ours.action
    summary = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"{\1}", theirs["annotations"]["summary"])
    assert re.sub(r"\{\{ \$value[^}]*\}\}B?", "{value}", summary) == ours.summary


@pytest.mark.parametrize(("name", "threshold"), THRESHOLDS.items())
def test_an_alert_has_the_same_threshold_in_prometheus_and_in_the_daemon(
    name: str, threshold: float
) -> None:
    compared = re.findall(r"> ([\d.]+)", ALERTS[name]["expr"])
    assert float(compared[0]) == threshold


def test_the_settings_defaults_are_those_thresholds() -> None:
    settings = load(environ={}, config=None).settings
    alerts = settings.alerts
    assert Limits() == Limits(
        stuck=alerts.stuck,
        dead_letters=alerts.dead_letters,
        p95=alerts.p95,
        slo_p95=settings.slo.p95,
        oldest_due=alerts.oldest_due,
        failure_ratio=alerts.failure_ratio,
    )


@pytest.mark.parametrize("job", [job for job in JOBS if job not in {"alerts", OTHER}])
def test_prometheus_waits_for_each_job_as_long_as_the_daemon_does(job: str) -> None:
    found = re.search(rf'vector\((\d+)\), "job", "{job}"', ALERTS["WaemitterJobLate"]["expr"])
    assert found is not None
    waits = {"refresh-analytics": 7200, "retention": 172_800, "session-cleanup": 172_800}
    assert int(found[1]) == waits.get(job, JOB_PATIENCE)
