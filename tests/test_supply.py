"""What a release is made of: the audit out of a folder, the locked tools, and what the release page promises."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = """
#### run
aiohttp==3.13.1 \\
    --hash=sha256:00
PyYAML==6.0.3 \\
    --hash=sha256:00
"""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


audit = load()


def advisory(name: str = "aiohttp", *, ecosystem: str = "PyPI", **affected: object) -> dict[str, object]:
    where = {"package": {"name": name, "ecosystem": ecosystem}, **affected}
    return {"id": "PYSEC-1", "summary": "Bad.", "affected": [where]}


def within(*events: dict[str, str], kind: str = "ECOSYSTEM") -> dict[str, object]:
    return {"ranges": [{"type": kind, "events": list(events)}]}


@pytest.mark.parametrize(
    ("record", "is_found"),
    [
        (advisory(versions=["3.13.0", "3.13.1"]), True),
        (advisory(versions=["3.13.0"]), False),
        (advisory(**within({"introduced": "0"}, {"fixed": "3.13.2"})), True),
        (advisory(**within({"introduced": "0"}, {"fixed": "3.13.1"})), False),
        (advisory(**within({"introduced": "3.14"})), False),
        (advisory(**within({"introduced": "3.0"}, {"last_affected": "3.13.1"})), True),
        (advisory(**within({"introduced": "3.0"}, {"last_affected": "3.13.0"})), False),
        (advisory(**within({"introduced": "0"}, {"fixed": "2.0"}, {"introduced": "3.13"}, {"fixed": "3.14"})), True),
        (advisory(**within({"fixed": "3.14"}, {"introduced": "3.13"})), True),
        (advisory(**within({"introduced": "0"}, kind="GIT")), False),
        (advisory("pyyaml", **within({"introduced": "0"})), True),
        (advisory("Py_YAML", **within({"introduced": "0"})), False),
        (advisory(ecosystem="npm", **within({"introduced": "0"})), False),
        (advisory(versions=["no version at all"]), False),
        ({**advisory(versions=["3.13.1"]), "withdrawn": "2026-01-01T00:00:00Z"}, False),
    ],
)  # fmt: skip
def test_a_locked_version_that_is_affected_is_found(
    record: dict[str, object], is_found: bool, tmp_path: Path
) -> None:
    (tmp_path / "lock.txt").write_text(LOCK)
    (tmp_path / "vulns/deep").mkdir(parents=True)
    (tmp_path / "vulns/deep/PYSEC-1.json").write_text(json.dumps(record))
    asked = ["--advisories", str(tmp_path / "vulns"), str(tmp_path / "lock.txt")]
    assert audit.main(asked) == int(is_found)
    assert audit.main(["--accept", "PYSEC-1", *asked]) == 0


def test_an_advisory_in_yaml_is_one_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "PYSEC-1.yaml").write_text(
        "id: PYSEC-1\ndetails: |\n  It leaks.\n  And more.\naffected:\n- package: {name: aiohttp, ecosystem: PyPI}\n"
        "  versions: [3.13.1]\n"
    )
    (tmp_path / "lock.txt").write_text(LOCK)
    assert audit.main(["--advisories", str(tmp_path), str(tmp_path / "lock.txt")]) == 1
    assert "aiohttp 3.13.1: PYSEC-1 It leaks.\n2 packages, 1 advisories, 1 found" in capsys.readouterr().out


def test_without_advisories_nothing_is_called_good(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(LOCK)
    assert audit.main(["--advisories", str(tmp_path), str(tmp_path / "lock.txt")]) == 2


@given(st.lists(st.integers(0, 9), min_size=2, max_size=2, unique=True), st.integers(0, 9))
def test_what_is_between_introduced_and_fixed_is_affected(ends: list[int], number: int) -> None:
    first, last = sorted(ends)
    events = [{"introduced": f"1.{first}"}, {"fixed": f"1.{last}"}]
    assert audit._is_within(Version(f"1.{number}"), events) == (first <= number < last)


def test_the_audit_reads_the_whole_lock() -> None:
    lock = (ROOT / "lock.txt").read_text()
    assert len(audit.pins_of(lock)) == len(re.findall(r"^\S+==", lock, re.MULTILINE)) > 100


def test_the_tools_of_a_release_are_locked_by_hashes_and_nothing_of_tocsin_s() -> None:
    pins = audit.pins_of((ROOT / ".ci/tools.txt").read_text())
    assert {"cyclonedx-bom", "pip-audit"} <= pins.keys()
    blocks = re.split(r"^(?=\S+==)", (ROOT / ".ci/tools.txt").read_text(), flags=re.MULTILINE)
    assert all("--hash=sha256:" in block for block in blocks if "==" in block)
    assert "://" not in (ROOT / ".ci/tools.txt").read_text()
    assert not {"cyclonedx-bom", "pip-audit"} & audit.pins_of((ROOT / "lock.txt").read_text()).keys()


def test_what_ships_without_a_hash_is_audited_and_listed_as_well() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("audit", "sbom"):
        recipe = makefile.partition(f"\n{target}:")[2].partition("\n\n")[0]
        assert "$(PINS)" in recipe, target
    assert "$(TORCH)" in makefile.partition("\n$(PINS):")[2].partition("\n\n")[0]


@pytest.mark.parametrize(
    "command", ["make audit", "make sbom", "make dist", "sha256sum --check", "cosign verify-blob"]
)
def test_the_page_says_how_a_release_is_made_and_checked(command: str) -> None:
    assert command in (ROOT / "docs/releasing.md").read_text()
