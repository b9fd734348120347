"""Says which locked packages have known vulnerabilities, out of a folder of advisories: no network is asked.

The folder holds advisories in the OSV format, one a file, JSON or YAML, at any depth: a copy of an advisory database
(`https://github.com/pypa/advisory-database` is one) that was brought in by hand. `make audit ADVISORIES=DIR` runs it.

Exit 0: none, 1: some, 2: it cannot be said.

Decision: beside pip-audit, which asks a service about each package, because a machine that builds releases often may
ask nobody. It takes OSV's `versions` and ECOSYSTEM ranges for what they say and leaves the rest (git ranges, other
ecosystems) out.
"""
# ruff: noqa: INP001, T201 - a command, not a package

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

Pins = Mapping[str, Version]


def pins_of(lock: str) -> dict[str, Version]:
    """Return the version of each package in a lock file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock, re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def advisories(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the advisories below a folder; what is none is passed over."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".yaml", ".yml"} and path.is_file():
            text = path.read_text("utf-8")
            record = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
            if isinstance(record, dict) and "affected" in record:
                yield record


def findings(pins: Pins, records: Iterator[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield package, version, id and what is known, for each advisory that a pinned version is affected by."""
    for record in records:
        if record.get("withdrawn"):
            continue
        for affected in record["affected"]:
            package = affected.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") == "PyPI" and name in pins and _is_affected(pins[name], affected):
                what = str(record.get("summary") or record.get("details") or "").strip().partition("\n")[0]
                yield name, str(pins[name]), record["id"], what
                break


def _is_affected(version: Version, affected: Mapping[str, Any]) -> bool:
    if any(_version(each) == version for each in affected.get("versions", ())):
        return True
    return any(
        _is_within(version, each.get("events", ()))
        for each in affected.get("ranges", ())
        if each.get("type") == "ECOSYSTEM"
    )


def _is_within(version: Version, events: Sequence[Mapping[str, str]]) -> bool:
    """Return whether a version is in a range: after the newest event before it, it is affected or not."""
    inside = False
    for at, is_in in sorted((_moment(each) for each in events), key=lambda item: (item[0][0], item[0][1])):
        if at <= (version, 0):
            inside = is_in
    return inside


def _moment(event: Mapping[str, str]) -> tuple[tuple[Version, int], bool]:
    """Return from where on an event counts, and whether what follows is affected."""
    if "introduced" in event:
        return (_version(event["introduced"]) or Version("0"), 0), True
    if "fixed" in event:
        return (_version(event["fixed"]) or Version("0"), 0), False
    return (_version(event.get("last_affected", "0")) or Version("0"), 1), False


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is found; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--advisories", type=Path, required=True, help="folder of advisories in the OSV format"
    )
    parser.add_argument("--accept", default="", help="ids that are known and bearable, separated by commas")
    parser.add_argument("locks", type=Path, nargs="+", help="lock files, or pins")
    asked = parser.parse_args(arguments)
    pins: dict[str, Version] = {}
    for lock in asked.locks:
        pins |= pins_of(lock.read_text("utf-8"))
    records = list(advisories(asked.advisories))
    if not records or not pins:
        print(f"{len(records)} advisories, {len(pins)} packages: nothing can be said", file=sys.stderr)
        return 2
    accepted = set(asked.accept.split(","))
    found = sorted(each for each in set(findings(pins, iter(records))) if each[2] not in accepted)
    for name, version, advisory, what in found:
        print(f"{name} {version}: {advisory} {what}")
    print(f"{len(pins)} packages, {len(records)} advisories, {len(found)} found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
