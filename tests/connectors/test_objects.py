"""Objects in stores: keys that a repeat finds again, folders that hold what they say, lines that parse."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import unquote

import msgspec
import pytest
from builders import START, event
from destinations import CASES, NASTY
from pydantic import TypeAdapter, ValidationError

import connectors
from bridge.model import EventKind
from connectors.formats.objects import HIVE, ObjectPath, batch, fixed_part, folder_of, name_of, quoted

PATH = TypeAdapter(ObjectPath)


def events(count: int, **changes):
    return [msgspec.structs.replace(event(EventKind.UPDATED, seq), **changes) for seq in range(1, count + 1)]


def test_the_same_events_have_the_same_key_and_others_another():
    assert batch(HIVE, events(3), 1_000_000).key == batch(HIVE, events(3), 500_000).key
    assert batch(HIVE, events(3), 1_000_000).key != batch(HIVE, events(2), 1_000_000).key
    assert batch(HIVE, events(3)[::-1], 1_000_000).key != batch(HIVE, events(3), 1_000_000).key


def test_a_key_is_folder_time_and_a_digest_of_the_ids():
    made = batch(HIVE, events(1), 1_000_000)

    folder, _, name = made.key.rpartition("/")
    assert folder == "incidents/year=2026/month=11/day=23"
    assert name.startswith("20261123T220001Z-")
    assert name.endswith(".jsonl")


def test_every_line_is_an_event():
    made = batch(HIVE, events(3), 1_000_000)

    assert made.body.endswith(b"\n")
    assert tuple(json.loads(line)["event_id"] for line in made.body.splitlines()) == made.event_ids


def test_lines_are_in_the_order_of_time_and_the_key_is_that_of_the_batch():
    late, early = events(2)
    late = msgspec.structs.replace(late, at=START + timedelta(minutes=5))
    made = batch(HIVE, [late, early], 1_000_000)

    assert [json.loads(line)["event_id"] for line in made.body.splitlines()] == [
        early.event_id,
        late.event_id,
    ]
    assert made.event_ids == (late.event_id, early.event_id)


@pytest.mark.parametrize("case", ["s3", "gcs", "blob_sas"])
def test_parquet_without_its_library_is_a_fault_that_says_what_to_install(case, monkeypatch, tmp_path):
    monkeypatch.setattr("connectors.formats.objects.find_spec", lambda _name: None)

    def faults(stored_as: str) -> dict[str, str]:
        kind = connectors.load(CASES[case]["kind"])
        return kind.Settings(**CASES[case] | {"stored_as": stored_as}).faults(tmp_path)

    assert faults("parquet") == {"stored_as": 'parquet needs more: pip install "tocsin[lake]"'}
    assert faults("jsonl") == {}


def test_what_belongs_to_another_folder_goes_into_another_object():
    late = [msgspec.structs.replace(each, at=START + timedelta(hours=3)) for each in events(4)[2:]]

    assert len(batch(HIVE, events(4)[:2] + late, 1_000_000).event_ids) == 2
    assert len(batch("{tenant}", [*events(1), *events(2, tenant="other")], 1_000_000).event_ids) == 1
    assert len(batch("all", events(4)[:2] + late, 1_000_000).event_ids) == 4


def test_an_object_is_no_larger_than_it_may_be():
    each = len(batch(HIVE, events(1), 1_000_000).body)
    made = batch(HIVE, events(10), 3 * each + each // 2)

    assert len(made.event_ids) == 3
    assert made.key == batch(HIVE, events(3), 1_000_000).key


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("", ""),
        ("{year}{month}{day}/{hour}", "20261123/22/"),
        ("a/b/", "a/b/"),
        ("ext/tocsin/region=eu-west-1/eventDay={year}{month}{day}", "ext/tocsin/region=eu-west-1/eventDay=20261123/"),
    ],
)  # fmt: skip
def test_a_pattern_becomes_a_folder(path, folder):
    assert folder_of(PATH.validate_python(path), event()) == folder


def test_days_and_hours_are_those_of_utc():
    there = datetime(2026, 11, 24, 5, 0, tzinfo=timezone(timedelta(hours=9)))
    at_home = msgspec.structs.replace(event(), at=there)

    assert folder_of("{day}T{hour}", at_home) == "23T20/"
    assert name_of([at_home]).startswith("20261123T200000Z")
    assert at_home.at.astimezone(UTC).hour == 20


@pytest.mark.parametrize("tenant", [NASTY, "../../etc", "..", "", "a/b", "ünï"])
def test_a_tenant_is_one_part_of_a_key_and_cannot_leave_it(tenant):
    folder = folder_of("a/{tenant}/b", msgspec.structs.replace(event(), tenant=tenant))

    assert folder.count("/") == 3
    assert folder.isascii()
    assert ".." not in folder


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/a", "begins without a slash"),
        ("a//b", "no part of it is empty"),
        ("a/../b", "made of dots"),
        ("./a", "made of dots"),
        ("{week}", r"\{week\} is not known; there are: day, hour, month, tenant, year"),
        ("{tenant.__class__}", "has letters"),
        ("{tenant!r}", "has letters"),
        ("{", "has letters"),
        ("a b", "has letters"),
        ("a\n", "has letters"),
        ("é", "has letters"),
        ("a?b", "has letters"),
        ("x" * 801, "at most 800"),
    ],
)
def test_a_pattern_that_is_none_is_refused(path, reason):
    with pytest.raises(ValidationError, match=reason):
        PATH.validate_python(path)


@pytest.mark.parametrize(
    ("path", "fixed"),
    [("", ""), ("a", "a/"), ("a/b/", "a/b/"), ("a/d={day}/x", "a/"), ("{year}/x", ""), ("a/b/{day}", "a/b/")],
)
def test_what_all_objects_are_under_is_known(path, fixed):
    assert fixed_part(path) == fixed
    assert folder_of(path, event()).startswith(fixed)


def test_a_key_is_quoted_for_an_url_and_comes_back_from_it():
    key = batch(HIVE, events(1), 1_000_000).key

    assert "year%3D2026/" in quoted(key)
    assert unquote(quoted(key)) == key
