"""Kind `parquet`: files that DuckDB writes, and that a reader finds whole, once, and under the day of their events."""

# ruff: noqa: S608 - the folder is the test's own
from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from builders import START, at, episode, event
from destinations import build, nasty_event
from msgspec.structs import replace

from bridge.model import Blocked, Delivered, Event, EventKind
from bridge.ports import Append, Rendered, Unreached
from connectors.kinds.parquet import Parquet
from connectors.transport.lake import TableSender

DOCS = Path(__file__).parents[2] / "docs"
UPDATED, CLOSED = EventKind.UPDATED, EventKind.CLOSED


@pytest.fixture
async def sender() -> AsyncIterator[TableSender]:
    made = TableSender()
    yield made
    await made.close()


def of(folder: Path, **changes: Any) -> Parquet:
    return build("parquet", path=str(folder), **changes)


async def write(sender: TableSender, connector: Parquet, *events: Event) -> Any:
    """Write until nothing is left, as the dispatcher does; return the verdicts."""
    verdicts: list[Any] = []
    while events:
        rendered = connector.render(events, None, "")
        request = connector.seal(rendered.request, rendered.event_ids, START)
        verdicts += connector.judge(rendered, await sender.send(request, timeout_s=20))
        events = events[len(rendered.event_ids) :]
    return verdicts


def files(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


def ask(text: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(":memory:") as engine:
        return engine.sql(text).fetchall()


async def test_a_batch_is_a_file_under_its_day(tmp_path, sender):
    assert await write(sender, of(tmp_path), event(), event(UPDATED, 2)) == [Delivered()] * 2

    [name] = files(tmp_path)
    assert re.fullmatch(r"day=2026-11-23/20261123T220001Z-[0-9a-f-]{36}\.parquet", name)
    assert ask(f"select seq, kind, severity, service, len(alerts), alerts[1].labels['instance'], day::text"
               f" from '{tmp_path}/*/*.parquet' order by seq") == [
        (1, "opened", "critical", "checkout", 2, "10.0.0.0:9100", "2026-11-23"),
        (2, "updated", "critical", "checkout", 2, "10.0.0.0:9100", "2026-11-23"),
    ]  # fmt: skip


async def test_a_repeat_replaces_itself(tmp_path, sender):
    for _ in range(3):
        await write(sender, of(tmp_path), event(), event(UPDATED, 2))

    assert len(files(tmp_path)) == 1
    await write(sender, of(tmp_path), event(UPDATED, 2))
    assert len(files(tmp_path)) == 2


async def test_events_of_two_days_are_two_files(tmp_path, sender):
    late = replace(event(UPDATED, 2), at=at(3 * 3600))

    assert await write(sender, of(tmp_path), event(), late) == [Delivered()] * 2

    assert [name.partition("/")[0] for name in files(tmp_path)] == ["day=2026-11-23", "day=2026-11-24"]


async def test_hostile_texts_and_large_events_are_texts(tmp_path, sender):
    assert await write(sender, of(tmp_path), nasty_event()) == [Delivered()]

    [(titles, alerts)] = ask(f"select title, alerts_total from '{tmp_path}/*/*.parquet'")
    assert (titles[:3], alerts) == ("a|b", 100)


async def test_a_reader_finds_whole_files_while_they_are_written(tmp_path, sender):
    seen: list[int] = []
    await write(sender, of(tmp_path), event(seq=1000))

    async def read() -> None:
        for _ in range(15):
            [(count,)] = await asyncio.to_thread(ask, f"select count(*) from '{tmp_path}/*/*.parquet'")
            seen.append(count)

    reading = asyncio.create_task(read())
    batches = 0
    while not reading.done():
        batches += 1
        await write(sender, of(tmp_path), *(event(UPDATED, 10 * batches + number) for number in range(10)))
    await reading

    assert seen == sorted(seen)
    assert all(count % 10 == 1 for count in seen)


async def test_what_a_crash_left_is_no_part_of_it(tmp_path, sender):
    await write(sender, of(tmp_path), event())
    (tmp_path / "day=2026-11-23" / ".220001-x.parquet.unfinished").write_bytes(b"PAR1 torn")

    assert ask(f"select count(*) from '{tmp_path}/*/*.parquet'") == [(1,)]


async def test_a_folder_that_cannot_be_made_blocks(sender):
    verdicts = await write(sender, of(Path("/proc/lake")), event())  # not even for root
    assert isinstance(verdicts[0], Blocked)
    assert "/proc/lake" in verdicts[0].reason


async def test_a_folder_that_is_a_file_blocks_and_is_told(tmp_path, sender):
    (tmp_path / "lake").write_text("x")
    connector = of(tmp_path / "lake")

    assert isinstance((await write(sender, connector, event()))[0], Blocked)
    request = connector.seal(connector.probe(), (), START)
    response = await sender.send(request, timeout_s=20)
    assert isinstance(connector.judge(Rendered(request=request, event_ids=("x",)), response)[0], Blocked)
    assert "is a file" in connector.Settings(name="x", path=str(tmp_path / "lake")).faults(tmp_path)["path"]
    assert "own stores" in connector.Settings(name="x", path=str(tmp_path)).faults(tmp_path)["path"]


async def test_without_the_engine_every_attempt_says_so(tmp_path, sender, monkeypatch):
    connector = of(tmp_path)
    monkeypatch.setitem(sys.modules, "duckdb", None)

    for _ in range(2):
        [verdict] = await write(sender, connector, event())
        assert isinstance(verdict, Blocked)
        assert 'pip install "tocsin[lake]"' in verdict.reason


async def test_a_probe_writes_nothing(tmp_path, sender):
    connector = of(tmp_path / "lake")
    request = connector.seal(connector.probe(), (), START)

    response = await sender.send(request, timeout_s=20)

    assert connector.judge(Rendered(request=request, event_ids=("x",)), response) == (Delivered(),)
    assert files(tmp_path) == []


async def test_another_protocol_is_not_for_this_sender(sender):
    assert isinstance(await sender.send(Append(path="x", lines=b""), timeout_s=1), Unreached)


# ---- the pages -------------------------------------------------------------------------------------------


@pytest.fixture
async def lake(tmp_path, sender, monkeypatch) -> Path:
    """A folder where the pages put it: an incident from beginning to end, with one event twice."""
    folder = tmp_path / "data" / "lake"
    labels = {"alertname": "Slow", "team": "shop"}
    first, ended = episode(labels=labels), episode(labels=labels, ends_at=at(600), times=4)
    events = [event(episodes=(first,)), event(CLOSED, 2, episodes=(ended,), closed_at=at(600))]
    await write(sender, of(folder), *events)
    await write(sender, of(folder), events[1])
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.usefixtures("lake")
async def test_the_columns_are_those_of_the_page_and_the_queries_answer():
    page = (DOCS / "bi.md").read_text().partition("\n## Parquet\n")[2].partition("\n## ")[0]
    told = [
        re.findall(r"`(\w+)`", line.split("|")[1]) for line in page.splitlines() if line.startswith("| `")
    ]
    with duckdb.connect(":memory:") as engine:
        columns = engine.sql("from 'data/lake/*/*.parquet'")
        assert {name for names in told for name in names} == set(columns.columns)
        nested = next(line for line in page.splitlines() if line.startswith("| `alerts`"))
        [fields] = [
            kind for name, kind in zip(columns.columns, columns.types, strict=True) if name == "alerts"
        ]
        of_alert = {name for name, _ in fields.child.children}
        assert set(re.findall(r"`(\w+)`", nested.partition(", as in")[0])) - {"alerts"} == of_alert
    answers = [ask(query) for query in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)]
    assert answers == [[("shop", 1, 10.0)], [("default", "3f1c9a7d52e84b06", "Slow", 4, False)]]


async def test_the_files_of_a_day_are_put_together_as_the_page_says(lake, monkeypatch):
    [statement] = re.findall(r'duckdb -c "(.*?)"', (DOCS / "connectors/parquet.md").read_text())
    folder = lake / "day=2026-11-23"
    monkeypatch.chdir(folder)

    with duckdb.connect(":memory:") as engine:
        engine.execute(statement)

    assert ask(f"select seq from read_parquet('{folder}/.all') order by seq") == [(1,), (2,)]
    assert ask(f"select count(*) from '{folder}/*.parquet'") == [(3,)]
