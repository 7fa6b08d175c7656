"""What deploy/ and the Dockerfile promise is there: paths, commands, settings, ports; checked by their own tools too."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path
from shutil import ignore_patterns
from typing import Any, Final

import pytest
import yaml

from tests.deploying import COMPOSE, DEPLOY, ROOT, assert_runs, documents, run, services
from waemitter.settings import load

DOCKERFILE: Final = ROOT / "Dockerfile"
UNIT: Final = DEPLOY / "systemd/waemitter.service"
DEFAULTS: Final = load(environ={}, config=None).settings
A_VALUE: Final = {
    "DATABASE_URL": "postgresql://localhost/app",
    "WHATSAPP_PHONE_NUMBER_ID": "111000111",
}
FOREIGN: Final = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def assert_settings(environ: Mapping[str, str]) -> None:
    """Each is a setting of ours, with a value that it takes."""
    ours = {key: value for key, value in environ.items() if key not in FOREIGN}
    filled = {
        key: A_VALUE.get(key, "secret") if "$" in value or not value else value
        for key, value in ours.items()
    }
    assert not load(environ=filled, config=None).unused


# --- the image ----------------------------------------------------------------------------------------------------------------


def instructions(name: str) -> list[str]:
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def in_context(path: str) -> bool:
    """Whether .dockerignore lets it through; the last rule that matches counts."""
    allowed = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#") and fnmatch(path, rule.removeprefix("!")):
            allowed = rule.startswith("!")
    return allowed


def test_the_image_is_built_from_files_that_its_context_has() -> None:
    copies = [line.split() for line in instructions("COPY") if not line.startswith("--from")]
    sources = [source.rstrip("/") for copy in copies for source in copy[:-1]]
    assert {"pyproject.toml", "schema.sql", "waemitter"} <= set(sources)
    assert [name for name in sources if not (ROOT / name).exists() or not in_context(name)] == []
    assert not in_context(".env")
    assert not in_context(".git")


def test_the_image_carries_what_the_package_s_build_reads() -> None:
    sources = " ".join(instructions("COPY"))
    project = (ROOT / "pyproject.toml").read_text()
    for key in ("readme = ", "license-files = "):
        (line,) = (line for line in project.splitlines() if line.startswith(key))
        (name,) = re.findall(r'"([^"]+)"', line)
        assert name in sources


def test_the_image_s_context_is_enough_to_build_the_package(tmp_path: Path) -> None:
    for line in instructions("COPY"):
        *sources, _ = line.split()
        for source in sources if not line.startswith("--from") else ():
            path = ROOT / source
            if path.is_dir():
                copied = tmp_path / path.name
                shutil.copytree(path, copied, symlinks=True, ignore=ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, tmp_path)
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", str(tmp_path))
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("waemitter/schema.sql") == (ROOT / "schema.sql").read_bytes()


def test_the_image_s_extras_are_the_package_s() -> None:
    text = DOCKERFILE.read_text()
    (named,) = re.findall(r"^# Of ([\w, ]+?) what you use", text, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"\w+", named)) - {"and"} <= set(project["optional-dependencies"])
    assert re.search(r"^ARG EXTRAS=$", text, re.MULTILINE)


BARE: Final = """
import importlib, pkgutil, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in sys.argv[1:]:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Refuse())
import waemitter
for module in pkgutil.walk_packages(waemitter.__path__, 'waemitter.'):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as missing:
        print(module.name)
    except SystemExit:
        pass
"""
ASKED_FOR_BY_NAME: Final = {
    "waemitter.inbox.media.s3",
    "waemitter.jobs.event_stream.targets.kafka",
    "waemitter.jobs.event_stream.targets.nats",
    "waemitter.jobs.event_stream.targets.tracing",
}


def test_a_package_without_extras_has_every_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name = re.compile(r"[\w-]+")
    base = {name.findall(each)[0] for each in project["dependencies"]}
    extras = {
        name.findall(each)[0]
        for group in project["optional-dependencies"].values()
        for each in group
    } - {*base, "waemitter"}
    modules = [
        module
        for module, packages in packages_distributions().items()
        if {package.replace("_", "-") for package in packages} <= extras
    ]
    assert {"openai", "markdown_it", "obstore"} <= set(modules)
    done = run(sys.executable, "-c", BARE, *modules)
    assert done.returncode == 0, done.stderr
    missing = {name for name in done.stdout.split() if ".bench.peers." not in name}
    assert missing <= ASKED_FOR_BY_NAME


def test_the_image_has_two_stages_of_pinned_versions_and_is_nobody() -> None:
    stages = instructions("FROM")
    assert len(stages) == 2
    assert all(re.search(r":\d", stage) for stage in stages)
    (user,) = instructions("USER")
    assert user != "0:0"
    assert re.fullmatch(r"\d+:\d+", user)  # a number: kubernetes' runAsNonRoot knows no names
    last = DOCKERFILE.read_text().rpartition("FROM ")[2]
    assert last.index("USER ") < last.index("ENTRYPOINT ")


def test_what_the_image_runs_is_a_command_of_ours() -> None:
    (entrypoint,) = instructions("ENTRYPOINT")
    assert json.loads(entrypoint) == ["waemitter"]
    (command,) = instructions("CMD")
    assert_runs(json.loads(command))
    (health,) = instructions("HEALTHCHECK")
    assert_runs(json.loads(health.partition("CMD ")[2])[1:])


def test_the_image_s_environment_is_made_of_settings() -> None:
    (pairs,) = instructions("ENV")
    environ = dict(pair.split("=", 1) for pair in shlex.split(pairs))
    assert environ["WAEMITTER_HTTP__HOST"] == "0.0.0.0"
    assert_settings(environ)
    (port,) = instructions("EXPOSE")
    assert int(port) == DEFAULTS.http.port


# --- compose ------------------------------------------------------------------------------------------------------------------


def test_compose_starts_what_it_says_in_an_order_that_exists() -> None:
    found = services()
    assert {"postgres", "schema", "daemon", "prometheus", "grafana"} <= set(found)
    for service in found.values():
        assert set(service.get("depends_on", ())) <= set(found)
    assert_runs(found["schema"]["command"])


def test_compose_mounts_what_is_there() -> None:
    (document,) = documents(COMPOSE)
    for service in document["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0] if isinstance(volume, str) else None
            if source is not None and source.startswith("."):
                assert (COMPOSE.parent / source).exists(), source
            elif source is not None:
                assert source in document["volumes"]


def test_compose_s_variables_are_those_of_the_example() -> None:
    lines = (COMPOSE.parent / ".env.example").read_text().splitlines()
    given = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert set(re.findall(r"\$\{(\w+)", COMPOSE.read_text())) == given


def test_compose_gives_the_daemon_settings_that_exist_and_time_to_end() -> None:
    daemon = services()["daemon"]
    assert_settings(daemon["environment"])
    assert float(daemon["stop_grace_period"].rstrip("s")) > DEFAULTS.grace
    assert "waemitter_service" in daemon["environment"]["DATABASE_URL"]  # not the owner


def test_compose_opens_nothing_to_the_world() -> None:
    for service in services().values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


# --- systemd ------------------------------------------------------------------------------------------------------------------


def unit() -> dict[str, str]:
    """Keys to values; the last wins."""
    lines = (line for line in UNIT.read_text().splitlines() if not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_the_unit_runs_our_commands_with_our_settings() -> None:
    found = unit()
    program, *arguments = found["ExecStart"].split()
    assert program == "/opt/waemitter/bin/waemitter"
    assert_runs(arguments)
    assert_settings(dict(pair.split("=", 1) for pair in found["Environment"].split()))


def test_the_unit_waits_for_the_daemon_s_word_and_for_its_grace() -> None:
    found = unit()
    assert (found["Type"], found["NotifyAccess"]) == ("notify", "main")
    assert int(found["WatchdogSec"]) > 0
    assert float(found["TimeoutStopSec"]) > DEFAULTS.grace


@pytest.fixture
def installed_unit(tmp_path: Path) -> Path:
    """As on a machine where the package is where the unit expects it."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/waemitter/bin/waemitter", "/bin/true"))
    return copy


@pytest.mark.tool("systemd-analyze", package="systemd")
def test_systemd_finds_nothing_wrong_with_the_unit(installed_unit: Path) -> None:
    found = run("systemd-analyze", "verify", "--man=no", str(installed_unit))
    ours = [line for line in found.stderr.splitlines() if installed_unit.name in line]
    assert (found.returncode, ours) == (0, [])


@pytest.mark.tool("systemd-analyze", package="systemd")
def test_the_unit_exposes_little(installed_unit: Path) -> None:
    found = run("systemd-analyze", "security", "--offline=true", str(installed_unit))
    overall = re.search(r"Overall exposure level.*: ([\d.]+)", found.stdout)
    assert overall is not None, found.stderr
    assert float(overall[1]) <= 2.0


# --- kubernetes ---------------------------------------------------------------------------------------------------------------

KUBERNETES: Final = DEPLOY / "kubernetes"
API_VERSIONS: Final = {
    "Namespace": "v1",
    "ServiceAccount": "v1",
    "Secret": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "PodDisruptionBudget": "policy/v1",
}


def manifests() -> list[dict[str, Any]]:
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    names = [*kustomization["resources"], "secret.example.yaml"]
    return [document for name in names for document in documents(KUBERNETES / name)]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests() if manifest["kind"] == kind]


def containers() -> Iterator[dict[str, Any]]:
    for manifest in [*of_kind("Deployment"), *of_kind("Job")]:
        yield from manifest["spec"]["template"]["spec"]["containers"]


def test_the_manifests_are_of_versions_that_every_cluster_has_and_all_are_applied() -> None:
    assert {m["kind"]: m["apiVersion"] for m in manifests()} == API_VERSIONS
    (kustomization,) = documents(KUBERNETES / "kustomization.yaml")
    applied = {*kustomization["resources"], "kustomization.yaml", "secret.example.yaml"}
    assert {path.name for path in KUBERNETES.iterdir()} == applied


def test_selectors_find_the_daemon_s_pods_and_not_the_job_s() -> None:
    (deployment,) = of_kind("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    (job,) = of_kind("Job")
    others = job["spec"]["template"]["metadata"]["labels"].items()
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in of_kind("Service")]
    selectors += [it["spec"]["selector"]["matchLabels"] for it in of_kind("PodDisruptionBudget")]
    assert len(selectors) == 4
    for selector in selectors:
        assert selector.items() <= labels
        assert not selector.items() <= others


def test_ports_and_probes_lead_to_what_the_daemon_serves() -> None:
    (deployment,) = of_kind("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    environ = {each["name"]: each.get("value") for each in container["env"]}
    assert ports == {
        "webhooks": DEFAULTS.http.port,
        "admin": int(environ["WAEMITTER_HTTP__ADMIN_PORT"]),
    }
    probes = {
        kind: (container[kind]["httpGet"]["path"], container[kind]["httpGet"]["port"])
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert probes == {
        "startupProbe": ("/health/live", "webhooks"),
        "livenessProbe": ("/health/live", "webhooks"),  # never readiness: it follows Postgres
        "readinessProbe": ("/health/ready", "admin"),
    }
    for service in of_kind("Service"):
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])


def test_two_daemons_run_one_stays_and_each_has_time_to_end() -> None:
    (deployment,) = of_kind("Deployment")
    (budget,) = of_kind("PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 2
    assert 1 <= budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]
    pod = deployment["spec"]["template"]["spec"]
    (_, pause) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > DEFAULTS.grace + float(pause)


def test_containers_run_our_commands_with_our_settings_and_no_right_too_many() -> None:
    (secret,) = of_kind("Secret")
    for container in containers():
        assert_runs(container["args"])
        assert_settings({each["name"]: each.get("value", "") for each in container["env"]})
        for each in container["env"]:
            if "valueFrom" in each:
                reference = each["valueFrom"]["secretKeyRef"]
                assert reference["name"] == secret["metadata"]["name"]
                assert reference["key"] in secret["stringData"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.tool("kubectl", package="kubernetes-client")
def test_kustomize_puts_the_manifests_together() -> None:
    built = run("kubectl", "kustomize", str(KUBERNETES))
    assert built.returncode == 0, built.stderr
    found = [document for document in yaml.safe_load_all(built.stdout) if document]
    assert len(found) == len(manifests()) - 1  # the example stays out
    images = re.findall(r"image: (\S+)", built.stdout)
    assert images
    assert all(re.fullmatch(r"waemitter:\d[\d.]*", image) for image in images)
