"""The files that people copy into their systems: read by the programs they are for, where these are installed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from servers import require_server

import bridge
import connectors
from bridge import config
from bridge.cli import serve
from bridge.telemetry import METRICS

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
KINDS = {kind: connectors.load(kind) for kind in connectors.KINDS}
EXPOSURE = 2.5


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as if from a shell: a `make` in here is not part of the one that runs the tests."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    words = [str(part) for part in command]
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=50, check=False)


def output_of(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command that must succeed and return what it said."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- Alertmanager ----------------------------------------------------------------------------------------


def test_amtool_accepts_the_shipped_alertmanager_configuration():
    output_of(require_server("amtool"), "check-config", CONFIG / "alertmanager/alertmanager.yml")


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (["alertname=HighLatency", "severity=warning"], "tocsin"),
        (["alertname=HighLatency", "severity=critical"], "pager,tocsin"),  # while trust is built
        (["alertname=HighLatency", "severity=page"], "pager,tocsin"),
        (["alertname=Watchdog"], "watchdog-pager,tocsin"),  # a heartbeat of Tocsin too
        (["alertname=TocsinDown", "severity=critical"], "pager"),  # past Tocsin
        (["severity=warning"], "tocsin"),
    ],
)
def test_alertmanager_routes_as_the_readme_says(labels, receivers):
    path = CONFIG / "alertmanager/alertmanager.yml"
    amtool = require_server("amtool")
    assert (
        output_of(amtool, "config", "routes", "test", f"--config.file={path}", *labels).strip() == receivers
    )


def test_alertmanager_sends_early_whole_groups_with_a_token():
    shipped = yaml.safe_load((CONFIG / "alertmanager/alertmanager.yml").read_text())
    route = shipped["route"]
    assert (route["group_wait"], route["group_interval"], route["repeat_interval"]) == ("5s", "30s", "1h")
    webhook = next(each for each in shipped["receivers"] if each["name"] == "tocsin")["webhook_configs"][0]
    assert webhook["max_alerts"] == 0
    assert webhook["http_config"]["authorization"]["credentials_file"]
    settings = config.default(KINDS)
    assert webhook["url"] == f"http://{settings.host}:{settings.port}/v1/alertmanager"


def test_the_alertmanager_configuration_says_where_its_token_comes_from():
    text = (CONFIG / "alertmanager/alertmanager.yml").read_text()
    said = " ".join(re.findall(r"^ *# (.*)$", text.partition("  - name: tocsin\n")[2], re.MULTILINE))
    assert "Make it with `openssl rand -hex 32` and name the same file under `tenants`" in said
    assert "without tokens there, take `authorization` away" in said


def test_the_watchdog_comes_often_enough_for_the_default_heartbeat():
    shipped = yaml.safe_load((CONFIG / "alertmanager/alertmanager.yml").read_text())
    [to_tocsin] = [
        route
        for route in shipped["route"]["routes"]
        if route["receiver"] == "tocsin" and "Watchdog" in str(route.get("matchers"))
    ]
    [heartbeat] = config.default(KINDS).analysis.heartbeats
    assert to_tocsin["repeat_interval"] == "5m"
    assert heartbeat.missing_after_s >= 2 * 5 * 60


# ---- Prometheus ------------------------------------------------------------------------------------------


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((CONFIG / "prometheus/tocsin.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_promtool_accepts_scrape_job_and_rules():
    output_of(require_server("promtool"), "check", "config", CONFIG / "prometheus/prometheus.yml")


def test_the_rules_fire_when_they_should_and_stay_silent_when_not(tmp_path):
    shutil.copy(CONFIG / "prometheus/tocsin.rules.yml", tmp_path)
    shutil.copy(ROOT / "tests/configs/tocsin.rules.test", tmp_path / "test.yml")
    output_of(require_server("promtool"), "test", "rules", tmp_path / "test.yml")


def test_the_rules_use_metrics_and_labels_that_exist():
    known = {metric.name: metric for metric in METRICS}
    for rule in rules():
        for name in re.findall(r"\btocsin_\w+", rule["expr"]):
            assert name in known, f"{rule['alert']} uses {name}"
        labels = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) - {"instance"}
        used = [known[name] for name in re.findall(r"\btocsin_\w+", rule["expr"])]
        assert labels <= {label for metric in used for label in metric.labels}, rule["alert"]


def test_every_alert_about_tocsin_is_one_that_alertmanager_sends_past_it():
    assert all(re.fullmatch(r"Watchdog|Tocsin.*", rule["alert"]) for rule in rules())
    assert all(rule["annotations"].get("summary") for rule in rules())


# ---- systemd ---------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return the unit with a program that exists here: the real one is not installed in /opt."""
    path = tmp_path / "tocsin.service"
    text = (ROOT / "systemd/tocsin.service").read_text()
    path.write_text(text.replace("ExecStart=/opt/tocsin/bin/tocsin", "ExecStart=/bin/true"))
    return path


def test_systemd_accepts_the_unit(unit):
    analyze = require_server("systemd-analyze")
    done = subprocess.run(
        [analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_is_exposed_less_than_allowed(unit):
    said = output_of(require_server("systemd-analyze"), "security", "--offline=true", "--no-pager", unit)
    assert float(re.search(r"exposure level for \S+: ([\d.]+)", said)[1]) < EXPOSURE


def test_the_unit_waits_for_readiness_and_leaves_pytorch_its_freedom():
    """With ProcSubset=pid there is no /proc/cpuinfo: other kernels, other vectors, no process metrics."""
    text = (ROOT / "systemd/tocsin.service").read_text()
    assert "Type=notify\n" in text
    assert not re.search(r"^(MemoryDenyWriteExecute|ProcSubset)=", text, re.MULTILINE)


@pytest.mark.parametrize("shipped", ["tocsin.yaml", "tocsin.minimal.yaml"])
def test_the_unit_and_the_shipped_files_keep_everything_in_the_state_directory(shipped):
    text = (ROOT / "systemd/tocsin.service").read_text()
    workplace = Path(re.search(r"^WorkingDirectory=(.*)$", text, re.MULTILINE)[1])
    words = shlex.split(re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1])[2:]
    words[words.index("--config") + 1] = str(CONFIG / shipped)
    given = serve.make_context("serve", words).params
    settings = config.load(given["config"], KINDS, {}, listen=given["listen"], data_dir=given["data"])
    data = workplace / settings.data_dir
    assert data.is_relative_to("/var/lib/tocsin")
    [destination] = settings.destinations
    assert (workplace / destination.settings.path).is_relative_to(data)


def test_make_install_makes_what_the_unit_starts_and_documents():
    """Tried whole only by hand: it installs some hundred packages."""
    make, unit = require_server("make"), (ROOT / "systemd/tocsin.service").read_text()
    said = output_of(make, "--dry-run", "install", "PREFIX=/opt/tocsin")
    assert "ExecStart=/opt/tocsin/bin/tocsin " in unit
    assert "/opt/tocsin/bin/tocsin --version" in said
    assert "Documentation=file:///opt/tocsin/share/doc/tocsin/README.md\n" in unit
    assert re.search(r"cp -R README\.md .* /opt/tocsin/share/doc/tocsin", said)
    assert not re.search(r"pip install[^\n]*\s-e\b", said), "a home directory is hidden from the service"


def test_make_install_leaves_a_directory_alone_that_is_not_its_own(tmp_path):
    (tmp_path / "precious").touch()
    done = run(require_server("make"), "install", f"PREFIX={tmp_path}")
    assert done.returncode != 0
    assert f"{tmp_path} holds something else" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


# ---- containers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    documents = yaml.safe_load_all((CONFIG / "kubernetes/tocsin.yaml").read_text())
    return {document["kind"]: document for document in documents}


def test_the_configuration_in_kubernetes_loads_with_its_secrets(kubernetes, tmp_path):
    text = kubernetes["ConfigMap"]["data"]["tocsin.yaml"]
    for number, path in enumerate(re.findall(r"token_file: (/etc/tocsin/secrets/[\w.]+)", text)):
        (tmp_path / str(number)).write_text(f"{number}" * 32)
        text = text.replace(path, str(tmp_path / str(number)))
    (tmp_path / "tocsin.yaml").write_text(text)
    settings = config.load(tmp_path / "tocsin.yaml", KINDS, {})
    assert settings.host == "0.0.0.0"
    assert {token.role for token in settings.tokens} == {"sender", "viewer"}
    mounts = kubernetes["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert str(settings.data_dir) in {mount["mountPath"] for mount in mounts}


def test_kubernetes_runs_one_unprivileged_replica_with_a_volume_and_probes(kubernetes):
    spec = kubernetes["StatefulSet"]["spec"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    assert spec["replicas"] == 1
    assert spec["volumeClaimTemplates"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["readinessProbe"]["httpGet"]["path"] == "/-/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
    assert container["image"] == f"tocsin:{bridge.__version__}"
    assert container["ports"][0]["containerPort"] == kubernetes["Service"]["spec"]["ports"][0]["port"] == 9195
    named = {volume["name"] for volume in pod["volumes"]} | {"data"}
    assert {mount["name"] for mount in container["volumeMounts"]} == named


def test_the_image_runs_as_nobody_without_build_tools_and_says_how_it_is():
    final = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert "USER 65532:65532" in final
    assert "HEALTHCHECK" in final
    assert "/-/healthy" in final
    assert not re.search(r"apt-get|gcc|hatchling|pip install", final)
    build = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[0]
    assert build.rstrip().splitlines()[-3].endswith("pip uninstall --yes setuptools pip")
    assert final.splitlines()[1].startswith("RUN python -m pip uninstall --yes")
    assert "ARG TORCH_INDEX" in (ROOT / "Dockerfile").read_text()


def test_the_image_cuts_the_lock_file_where_its_parts_begin():
    text = (ROOT / "Dockerfile").read_text()
    [cut] = re.findall(r"RUN (if \[ -n .*? > run\.txt)", text, re.DOTALL)
    [build] = re.findall(r"sed -n '([^']+)' lock\.txt", text)
    shell = cut.removesuffix(" > run.txt")
    runs = output_of("sh", "-c", shell)
    more = output_of("sh", "-c", f"EXTRAS=1; {shell}")
    builds = output_of(require_server("sed"), "-n", build, "lock.txt")
    assert {"aiohttp", "sentence-transformers", "sympy"} <= packages(runs)
    assert {"botocore", "aiokafka", "duckdb"} <= packages(more) - packages(runs)
    assert packages(runs) < packages(more)
    assert {"hatchling", "editables"} <= packages(builds)
    assert not packages(more) & {"hatchling", "pytest", "ruff", "mypy"}
    assert not packages(builds) & {"aiohttp", "pytest", "ruff", "mypy"}


# ---- setting up ------------------------------------------------------------------------------------------


def packages(text: str) -> set[str]:
    return {canonicalize_name(name) for name in re.findall(r"^([A-Za-z0-9][\w.-]*)==", text, re.MULTILINE)}


def test_the_lock_holds_everything_but_torch_with_hashes_and_without_addresses():
    text = (ROOT / "lock.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    assert {canonicalize_name(Requirement(name).name) for name in wanted} <= packages(text)
    assert {"filelock", "fsspec", "jinja2", "networkx", "sympy", "typing-extensions"} <= packages(
        text
    )  # for torch
    assert "torch" not in packages(text)
    assert not re.search(r"https?:|--index|--find-links", text)
    blocks = re.split(r"^(?=[A-Za-z0-9][\w.-]*==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)


def test_makefile_and_dockerfile_install_the_same_torch():
    versions = {
        version
        for name in ("Makefile", "Dockerfile")
        for version in re.findall(r"\btorch==(\S+)", (ROOT / name).read_text())
    }
    assert len(versions) == 1


@pytest.mark.parametrize(
    "target", ["run", "test", "check", "demo", "bench", "lock", "fmt", "install", "clean", "help"]
)
def test_make_knows_the_target_and_lists_it(target):
    make = require_server("make")
    output_of(make, "--dry-run", target)
    assert re.search(rf"^make {target}\b", output_of(make, "help"), re.MULTILINE)


def bench(tmp_path: Path, *, fails: str = "", **variables: str) -> tuple[int, list[str]]:
    """Run the recipe with a Python that only says what it was asked to run."""
    stamp, python = tmp_path / "stamps/tocsin", tmp_path / "bin/python"
    for path in (stamp, python):
        path.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@"\n[ "$1" != "{fails}" ]\n')
    python.chmod(0o755)
    given = {"BIN": tmp_path / "bin", "STAMPS": tmp_path / "stamps"} | variables
    stamp.touch()
    variables_of_make = (f"{name}={value}" for name, value in given.items())
    done = run(require_server("make"), "-o", stamp, "bench", *variables_of_make)
    return done.returncode, done.stdout.splitlines()


def test_make_bench_runs_every_claim_and_says_what_it_leaves_out(tmp_path):
    scripts = {f"benchmarks/{path.name}" for path in (ROOT / "benchmarks").glob("*.py")}
    (code, without), with_data = bench(tmp_path / "1"), bench(tmp_path / "2", DATA="/data")[1]
    assert code == 0
    assert {line.split()[0] for line in with_data if not line.startswith("==")} == scripts
    assert "benchmarks/text.py --data /data/rules" in with_data
    assert "benchmarks/captured.py --data /data/alertmanager-payloads" in with_data
    assert "== text: skipped, it needs data; say make bench DATA=..." in without
    assert not [line for line in without if line.startswith("benchmarks/text.py")]


def test_a_benchmark_that_fails_does_not_keep_the_others_and_is_named(tmp_path):
    code, said = bench(tmp_path, fails="benchmarks/intake.py")
    assert code != 0
    assert "benchmarks/crash_sidecar.py" in said
    assert said[-1] == "not good: intake"


def test_the_ci_script_is_sound_bash_that_stops_at_the_first_failure():
    output_of(require_server("bash"), "-n", ROOT / ".ci/run")
    assert "set -euo pipefail" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.parametrize("name", ["tocsin.yaml", "splunk.token", "data/incidents.jsonl"])
def test_git_leaves_alone_what_a_reader_of_the_readme_writes(name):
    output_of(require_server("git"), "check-ignore", "--quiet", "--no-index", name)
    assert "config/tocsin.yaml" in output_of(require_server("git"), "ls-files", "config")


def test_the_licence_is_the_one_that_is_declared():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_every_destination_kind_stands_in_the_room_that_the_import_contracts_name():
    assert {module.rpartition(".")[0] for module in connectors.KINDS.values()} == {"connectors.kinds"}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [sockets] = [each for each in contracts if each["name"].startswith("Only the transport")]
    assert "connectors.kinds" in sockets["source_modules"]
