"""A connector from a package of its own: installed, found by its entry point, and held to the contract of all."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path

import destinations
import pytest
from destinations import EXPECTED
from expected import Expected

import connectors
from bridge import config
from bridge.app.destinations import connectors_of
from bridge.app.kinds import known_kinds
from bridge.errors import ConfigError
from bridge.model import Reject
from bridge.ports import HttpResponse
from connectors.tailoring import Tailored
from tests.connectors import test_contract

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples" / "tocsin-connector-example"
MODULE = "tocsin_connector_example"
#: Of kinds that send the whole event, and of those whose size can be set: this one does neither.
ELSEWHERE = {"test_what_is_left_out_is_counted", "test_the_size_of_a_request_can_be_set"}
CONTRACT = [
    name
    for name, function in vars(test_contract).items()
    if name.startswith("test_")
    and name not in ELSEWHERE
    and tuple(inspect.signature(function).parameters) == ("case",)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package as its users do, but into a folder of its own and without a network."""
    copied, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("target")
    shutil.copytree(SOURCE, copied)
    install = [
        sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation",
        "--python", sys.executable, "--target", str(target), str(copied),
    ]  # fmt: skip
    subprocess.run(install, check=True, timeout=50, capture_output=True)
    return target


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(folder))
    invalidate_caches()
    expected = Expected(
        secrets=("tk_example_0000",),
        has_max_bytes=False,
        has_ca_file=False,
        corrected={"url": "https://right.example.com"},
        statuses=dict.fromkeys((400, 409, 422), Reject),
        probed=HttpResponse(status=200, headers={}, body=b'{"healthy":true}'),
    )
    monkeypatch.setitem(EXPECTED, "example", expected)
    monkeypatch.setitem(destinations.CASES, "example", connectors.load("example").example)
    yield
    sys.modules.pop(MODULE, None)


@pytest.mark.usefixtures("installed")
def test_it_is_found_by_its_entry_point_beside_those_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yaml"
    path.write_text(
        "destinations: [{name: phone, kind: example, url: 'https://a.example.com', token: tk, drop_on: [404]}]\n"
    )

    settings = config.load(path, known_kinds(), {})

    assert "example" in connectors.names()
    assert set(connectors.KINDS) < set(connectors.names())
    # What every destination can be told holds for it, too.
    assert isinstance(connectors_of(settings.destinations)["phone"], Tailored)


@pytest.mark.usefixtures("installed")
def test_its_settings_are_checked_and_its_schema_is_known(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.yaml"
    path.write_text("destinations: [{name: phone, kind: example, url: nowhere, token: tk}]\n")

    with pytest.raises(ConfigError, match=r"destinations.*url: .*https"):
        config.load(path, known_kinds(), {})
    assert "example" in str(config.schema(known_kinds()))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", CONTRACT)
def test_it_holds_the_contract_of_all(name: str) -> None:
    getattr(test_contract, name)(case="example")


def test_its_own_tests_pass_where_it_is_installed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(SOURCE / "tests", tmp_path / "tests")
    path = os.pathsep.join([str(folder), str(ROOT)])

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "tests"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_a_name_of_ours_cannot_be_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "thief-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: thief\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text("[tocsin.connectors]\nslack = nowhere:Slack\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    invalidate_caches()

    assert connectors.load("slack").__module__.startswith("connectors.kinds.")


def test_the_how_to_shows_the_example_as_it_is() -> None:
    text = (ROOT / "docs" / "writing-connectors.md").read_text(encoding="utf-8")

    assert (SOURCE / "pyproject.toml").read_text(encoding="utf-8").partition("[project.entry")[2] in text
    assert len((SOURCE / MODULE / "__init__.py").read_text(encoding="utf-8").splitlines()) < 110
