"""Writes lock.txt: the packages of this virtual environment with their hashes, in four parts.

`make lock` runs it with the Python of .venv. Left out are the project itself and torch: whether torch's build
is for CPU or CUDA is the installer's choice, and any hash would fix it. What torch needs is in the lock. The
parts are cut apart by the Dockerfile: what runs, what extras add, what builds the wheel, what developers need besides.
"""
# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LEFT_OUT = {"tocsin", "torch", "pip", "setuptools", "wheel"}
BUILD = ("hatchling", "editables")
PARTS = ("run", "extras", "build", "develop")
HEAD = """\
# Every package but torch and Tocsin itself, with hashes. Written by `make lock`; do not edit.
# Install with `pip install --no-deps --require-hashes -r lock.txt`.
"""


def closure(names: Iterable[str]) -> set[str]:
    """Return the canonical names of these packages and of all they need."""
    found: set[str] = set()
    waiting = [(Requirement(name), "") for name in names]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        found.add(name)
        for wanted in ("", *sorted(requirement.extras)):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                needed = distribution(name).requires or []
                waiting += [(Requirement(text), wanted) for text in needed]
    return found - LEFT_OUT


def compiled(pins: str) -> dict[str, str]:
    """Return each package's lines with its hashes."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-deps", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "-"]
    output = subprocess.run(command, input=pins, capture_output=True, text=True, check=True).stdout  # noqa: S603
    blocks = re.split(r"^(?=[A-Za-z0-9])", output, flags=re.MULTILINE)
    return {canonicalize_name(block.partition("==")[0]): block for block in blocks if "==" in block}


def main() -> None:
    """Write lock.txt."""
    versions = {canonicalize_name(each.name): each.version for each in distributions()}
    blocks = compiled(
        "".join(f"{name}=={version}\n" for name, version in versions.items() if name not in LEFT_OUT)
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run = closure(project["dependencies"])
    extras = closure(name for extra in project["optional-dependencies"].values() for name in extra) - run
    build = closure(BUILD) - run - extras
    develop = set(blocks) - run - extras - build
    parts = {"run": run, "extras": extras, "build": build, "develop": develop}
    text = HEAD
    for part in PARTS:
        text += f"\n#### {part}\n" + "".join(blocks[name] for name in sorted(parts[part]))
    (ROOT / "lock.txt").write_text(text)
    print(", ".join(f"{len(parts[part])} to {part}" for part in PARTS))  # noqa: T201 - this is a command


if __name__ == "__main__":
    main()
