"""The documentation says everything that can be used, and what it points at exists."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from timeline import START

from bridge.analysis.reports import FLAT, Told, flat_record, incident_record
from bridge.api import Api
from bridge.api.shapes import FlatIncident
from bridge.app.recordings import Recorded, understand
from bridge.cli import tocsin
from bridge.config.models import Configuration
from bridge.model import (
    Event,
    EventEpisode,
    Incident,
    IncidentState,
    IncidentView,
    RootSuspect,
    RowKind,
    Score,
)
from bridge.telemetry import METRICS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


SUSPECT = RootSuspect(fingerprint="f", starts_at=START, confidence=1.0, why="")
INCIDENT = Incident(
    id="i", tenant="t", origin="alerts", state=IncidentState.OPEN, opened_at=START, closed_at=None,
    changed_at=START, active_at=START, title="", summary="", severity="info",
    anomaly=Score(value=None, reason=""), seq=1, alerts_total=1, alerts_firing=1, common_labels={},
    root=(SUSPECT,),
)  # fmt: skip


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


def table(page: str, before: str) -> dict[str, str]:
    """Return a table's rows by the backticked names in their first cell: the one that follows `before`."""
    text = (ROOT / "docs" / page).read_text()
    rows = text[text.index(before) :].partition("|---")[2].partition("\n\n")[0].splitlines()[1:]
    return {name: row for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_every_path_of_the_api_is_in_its_page_with_its_role():
    told = table("api.md", "## Paths")
    for route in Api(None, None, None).routes():  # type: ignore[arg-type]  # nothing is asked of them
        choice = re.search(r"\{\w+:([^}]*)\}", route.path)
        for each in choice[1].split("|") if choice else [""]:
            path = route.path.replace(choice[0], each) if choice else route.path
            assert f"{route.method} {path}" in told, f"{route.method} {path} is in no table"
    for sender in ("alertmanager", "grafana", "recorder"):
        assert {f"POST /v1/{sender}", f"POST /v1/{sender}/{{source}}"} <= set(told)


@pytest.mark.parametrize("name", ["incidents", "deliveries", "quarantine", "audit", "export"])
def test_every_parameter_of_the_api_is_in_its_page(name):
    source = inspect.getsource(getattr(Api, name))
    known = set(re.findall(r'"(\w+)"', re.search(r"Asked\(request, \{([^}]*)\}", source)[1]))
    page = (ROOT / "docs/api.md").read_text()
    row = next(
        line for line in page.splitlines() if line.startswith(f"| `/api/v1/{name}` |") and "`)" not in line
    )
    assert set(re.findall(r"`(\w+)`", row.split("|")[2])) - {"opened_at"} == known


@pytest.mark.parametrize(
    ("before", "word"),
    [("## tocsin.event/1", Event), ("`incident`:", IncidentView), ("Each of `episodes`:", EventEpisode)],
)
def test_every_field_of_an_event_is_in_the_docs_and_no_other(before, word):
    assert set(table("formats.md", before)) - {"tocsin.event/1"} >= set(word.__struct_fields__)
    named = [set(re.findall(r"`([^`]+)`", row.split("|")[1])) for row in table("formats.md", before).values()]
    assert set().union(*named) == set(word.__struct_fields__)


def test_every_field_of_an_incident_is_in_the_docs_and_no_other():
    assert set(table("formats.md", "## Incidents")) == set(incident_record(INCIDENT, ())) | set(
        re.findall(r"`(\w+)`", table("formats.md", "## Incidents")["episodes"].split("|")[1])
    )


def test_every_column_of_the_table_of_incidents_is_in_the_docs_and_no_other():
    assert set(table("bi.md", "## Over HTTP")) == set(FLAT)
    told = Told(episodes=[])
    assert list(flat_record(INCIDENT, told, "service")) == list(FLAT) == list(FlatIncident.__struct_fields__)


def test_every_kind_of_a_recorded_line_is_in_the_docs_and_the_examples_are_good():
    assert set(table("formats.md", "with a **`kind`**")) == {kind.value for kind in RowKind}
    block = (ROOT / "docs/formats.md").read_text().partition("```json\n")[2].partition("```")[0]
    found = [understand(line.encode(), tenant="default") for line in block.splitlines()]
    assert [type(each) for each in found] == [Recorded] * 3, found
    assert [each.kind for each in found] == [RowKind.WEBHOOK, RowKind.MODE, RowKind.WEBHOOK]


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
