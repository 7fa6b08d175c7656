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
from waemitter.observe.metrics import Metrics

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
