"""The columns of a format: everything that is written has its place in them, in every batch the same."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import ocsf_json_schema
import pytest
from builders import event
from destinations import nasty_event
from golden_events import EVENTS

from bridge.model import Event
from connectors.formats import encoder_of
from connectors.formats.shapes import shape_of
from connectors.transport.lake import opened, write_lines

FORMS = ("event", "ocsf-incident", "ocsf-detection")
EACH = pytest.mark.parametrize("form", FORMS)


def stored(form: str, folder: Path, *events: Event, size_bytes: int = 10**7) -> tuple[list[Any], list[Any]]:
    """Return the rows as JSON, and as they are found in a file with the columns of `form`."""
    rows = [encoder_of(form)(each, size_bytes) for each in events]
    (folder / "x.jsonl").write_bytes(b"".join(each + b"\n" for each in rows))
    with opened() as engine:
        write_lines(engine, folder / "x.jsonl", shape_of(form), folder / "x.parquet")
    with duckdb.connect(":memory:") as reader:
        found = reader.sql(f"from '{folder}/x.parquet'")
        return [json.loads(each) for each in rows], [
            dict(zip(found.columns, row, strict=True)) for row in found.fetchall()
        ]


def same(written: Any, read: Any) -> bool:
    """Return whether a value of JSON was read back as what it is; what JSON leaves out is None."""
    match written, read:
        case dict(), dict():
            return all(same(written.get(key), read.get(key)) for key in written | read)
        case list(), list():
            return len(written) == len(read) and all(map(same, written, read))
        case str(), datetime():
            return datetime.fromisoformat(written) == read
        case _:
            return type(written) is type(read) and written == read


@EACH
@pytest.mark.parametrize("name", EVENTS)
def test_everything_that_is_written_is_read_back(form, name, tmp_path):
    written, read = stored(form, tmp_path, EVENTS[name])

    assert same(written, read)


@EACH
@pytest.mark.parametrize("size_bytes", [10**7, 20_000])
def test_hostile_texts_are_read_back_as_they_are(form, size_bytes, tmp_path):
    written, read = stored(form, tmp_path, nasty_event(), event(), size_bytes=size_bytes)

    assert same(written, read)


def test_what_is_in_no_column_would_be_noticed():
    assert not same({"a": 1, "b": None, "c": 2}, {"a": 1, "b": None})
    assert not same({"a": {"b": "1"}}, {"a": {"b": 1}})


@EACH
def test_every_batch_has_the_same_columns(form, tmp_path):
    kinds = []
    for number, each in enumerate(EVENTS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        stored(form, folder, each)
        with duckdb.connect(":memory:") as reader:
            kinds.append(reader.sql(f"describe from '{folder}/x.parquet'").fetchall())

    assert all(each == kinds[0] for each in kinds)
    assert [name for name, *_ in kinds[0]] == list(json.loads(shape_of(form)))


@pytest.mark.parametrize(
    ("form", "name"), [("ocsf-incident", "incident_finding"), ("ocsf-detection", "detection_finding")]
)
def test_columns_of_ocsf_have_the_types_of_its_schema(form, name):
    columns = json.loads(shape_of(form))
    del columns["unmapped"]  # what the schema has no place for

    check(columns, SCHEMA["classes"][name]["attributes"], form)


#: The types of OCSF that are no texts.
OF_OCSF = {"integer_t": "INTEGER", "long_t": "BIGINT", "timestamp_t": "BIGINT", "boolean_t": "BOOLEAN"}
SCHEMA = ocsf_json_schema.get_ocsf_schema("1.8.0")


def check(columns: dict[str, Any], attributes: dict[str, Any], where: str) -> None:
    for name, column in columns.items():
        known, at = attributes[name], f"{where}.{name}"
        assert isinstance(column, list) == known.get("is_array", False), at
        one = column[0] if isinstance(column, list) else column
        if isinstance(one, dict):
            assert known["type"] == "object_t", at
            check(one, SCHEMA["objects"][known["object_type"]]["attributes"], at)
        else:
            assert one == OF_OCSF.get(known["type"], "VARCHAR"), at
