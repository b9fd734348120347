"""The documentation says everything that can be used, and what it points at exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bridge.cli import tocsin
from bridge.config.models import Configuration
from bridge.telemetry import METRICS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def prose() -> str:
    return "\n".join(page.read_text() for page in PAGES if page.exists())


@pytest.mark.parametrize("command", list(commands(tocsin)))
def test_every_command_is_in_the_docs(command):
    group, _, name = command.rpartition(" ")
    assert re.search(rf"\btocsin {group}[^\n]*\b{name}\b", prose()), f"tocsin {command} is in no page"


@pytest.mark.parametrize(
    "section", [field.alias or name for name, field in Configuration.model_fields.items()]
)
def test_every_section_of_the_configuration_is_explained(section):
    """Each single setting is in config/tocsin.yaml with its sentence: see test_config.py."""
    assert f"`{section}`" in (ROOT / "docs/configuration.md").read_text()


@pytest.mark.parametrize("metric", [metric.name for metric in METRICS])
def test_every_metric_is_in_the_docs(metric):
    assert f"`{metric}`" in (ROOT / "docs/metrics.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} points at {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name} points at {target}"


def anchors(page: Path) -> set[str]:
    """Return the anchors that a Markdown page has by its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
