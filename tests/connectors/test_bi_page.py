"""docs/bi.md: each query runs on a real PostgreSQL, each column is in its table and no other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import START, at, episode, event, view
from destinations import build
from postgreses import PASSWORD, Database, postgres
from tenacity.wait import wait_none

from bridge.analysis.announcing import announcement
from bridge.model import EventKind, Forecast
from bridge.ports import Response, Upserted
from connectors.kinds.postgres.tables import setup
from connectors.transport.sql import UpsertSender

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/bi.md").read_text()
QUERIES = re.findall(r"\n([^\n]+):\n\n```sql\n(.*?);\n```", PAGE, re.DOTALL)
#: What each query says of `lived`, without what depends on the clock.
ANSWERS = {
    "How long until": "2026-11-23|critical|2|1|1.0|1.0|7.5",
    "How much less": "2026-11-23|14|2|85.7",
    "Noise by team": "nobody|1|0|1|100.0\nshop|2|1|0|50.0",
    "The rules that": "Slow|shop|critical|10|1|0.0|10.0|https://runbooks.example/slow\n"
                      "Disk||warning|2|1|0.0|1.0|\nDown|shop|critical|2|1|100.0|10.0|",
    "What is open": "",
    "Nights and": "shop|f|1|1\nnobody|f|1|1",
    "How good": "4|1|0.60|1.00",
}  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgres() as made:
        yield made


@pytest.fixture(scope="module")
def lived(database: Database) -> Database:
    """Two incidents that are over: one of two alerts that somebody came to, one that nobody looked at."""
    connector = build("postgres", address=database.address, password=PASSWORD, tls=False)
    mine = {"team": "shop", "service": "checkout"}
    slow = episode("Slow", labels={"alertname": "Slow", **mine}, annotations={"runbook_url": "https://runbooks.example/slow"},
                   times=10, ends_at=at(600))  # fmt: skip
    down = episode("Down", 1, labels={"alertname": "Down", **mine}, times=2, ends_at=at(601), demoted=True)
    disk = episode("Disk", 2, labels={"alertname": "Disk"}, times=2, ends_at=at(62), severity="warning")
    seen = {"episodes": (slow, down), "common_labels": mine}
    over = {"closed_at": at(600)}
    events = [
        event(EventKind.OPENED, 1, **seen),
        event(EventKind.ACKNOWLEDGED, 60, **seen),
        event(EventKind.CLOSED, 61, **seen, **over),
        event(EventKind.CLOSED, 2, incident=view(
            id="other", episodes=(disk,), state="closed", closed_at=at(300), common_labels={}, alerts_firing=0)),
        event(EventKind.MERGED, 3, id="gone", episodes=()),
        announcement(
            Forecast(aim="service", name="checkout", at=at(-60), until=at(3600), probability=0.6, published=True,
                     reference=0.2, expected=0.3, expected_low=0.0, expected_high=1.0),
            "default", degraded=False, external_url=""),
    ]  # fmt: skip
    rendered = connector.render(events, None, "")

    async def write() -> Response:
        sender = UpsertSender(wait=wait_none())
        try:
            return await sender.send(
                connector.seal(rendered.request, rendered.event_ids, START), timeout_s=20
            )
        finally:
            await sender.close()

    assert isinstance(asyncio.run(write()), Upserted)
    return database


@pytest.mark.parametrize(("heading", "query"), QUERIES, ids=[heading[:20] for heading, _ in QUERIES])
def test_a_query_of_the_page_answers(lived, heading, query):
    [expected] = [answer for name, answer in ANSWERS.items() if heading.startswith(name)]
    assert lived.psql(query, database="reports") == expected


def test_what_is_open_is_listed_by_its_query(lived):
    query = next(query for heading, query in QUERIES if heading.startswith("What is open"))
    opened = query.replace("i.state in ('open', 'quiet')", "i.state = 'closed'")
    assert [line.split("|")[1:5] for line in lived.psql(opened, database="reports").splitlines()] == [
        ["critical", "shop", "checkout", "0"], ["critical", "", "", "0"],
    ]  # fmt: skip


def test_each_column_is_in_the_page_and_no_other(lived):
    found = lived.psql(
        "select table_name, string_agg(column_name, ' ') from information_schema.columns"
        " where table_schema = 'tocsin' group by 1",
        database="reports",
    )
    tables = {
        name: set(columns.split()) for name, columns in (line.split("|") for line in found.splitlines())
    }
    lines = {
        line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith(("| `dim_", "| `schema_"))
    }
    for table, columns in tables.items():
        if table in lines:
            told = set(re.findall(r"`(\w+)`", lines[table])) - {table}
        else:
            section = PAGE.partition(f"### {table}\n")[2].partition("\n#")[0]
            rows = [line for line in section.splitlines() if line.startswith("| `")]
            told = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
        assert told == columns, table


def test_the_script_is_what_tocsin_does_itself_and_can_be_run_again(database):
    script = (ROOT / "config/postgres/tocsin.sql").read_text()
    assert script.partition("\n")[2] == setup("tocsin")
    database.psql("create database by_hand")
    for _ in range(2):
        database.psql(script, database="by_hand")
    assert database.psql("select max(version) from tocsin.schema_version", database="by_hand") == "1"


def test_every_query_has_an_answer():
    assert len(QUERIES) == len(ANSWERS)
