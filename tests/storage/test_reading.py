"""Reading state.db: lists, pages, one incident, quarantine and exports, beside a writer or without a file."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from desks import TOPOLOGY, Desk, host, mixed, samples
from stores import FRONT, WON, apart, fill, firing, linker_row, row, settings_row
from timeline import START, after, alert, stamp, webhook

from bridge.analysis.settings import AnalysisSettings, Destination, Route, Source
from bridge.app.recordings import understand
from bridge.errors import StorageError
from bridge.model import IncidentState, RowKind
from bridge.storage.reading import Cursor, StateReader, models, read_cursor, write_cursor
from bridge.storage.state import StateStore
from bridge.storage.times import microseconds

ITEM_FIELDS = [
    "incident", "tenant", "origin", "state", "opened_at", "closed_at", "title", "summary", "severity",
    "anomaly", "episode_count", "root", "merged_into",
]  # fmt: skip
RECORD_FIELDS = [*(name.replace("episode_count", "episodes") for name in ITEM_FIELDS), "causal_graph"]
EPISODE_FIELDS = ["fingerprint", "starts_at", "ends_at", "source", "labels", "demoted", "suppressed", "why"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def reader_of(path: Path, count: int = 5) -> StateReader:
    fill(path, apart(count))
    return StateReader(path)


def test_a_store_that_is_not_there_yet_is_empty(path: Path) -> None:
    reader = StateReader(path)
    assert reader.incidents("default").items == ()
    assert reader.incident("default", "inc-1") is None
    assert reader.quarantine(None).items == ()
    assert reader.quarantined(None, 1) is None
    assert reader.stats(None)["processed_until"] is None
    assert reader.incident_lines(None).lines == reader.history_lines(None).lines == ()


def test_a_file_without_tables_is_empty_too(path: Path) -> None:
    path.touch()
    assert StateReader(path).incidents("default").items == ()


def test_a_file_that_is_no_database_is_told(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match=r"state\.db"):
        StateReader(path).incidents("default")


def test_incidents_come_newest_first_with_the_documented_fields(path: Path) -> None:
    items = reader_of(path).incidents("default").items
    assert [list(item) for item in items] == [ITEM_FIELDS] * 5
    assert [item["opened_at"] for item in items] == [START + timedelta(hours=n) for n in (4, 3, 2, 1, 0)]
    assert {item["episode_count"] for item in items} == {1}


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
def test_pages_hold_every_incident_once(path: Path, limit: int) -> None:
    reader = reader_of(path)
    seen: list[str] = []
    cursor = None
    while True:
        page = reader.incidents("default", limit=limit, cursor=cursor)
        assert len(page.items) <= limit
        seen += [item["incident"] for item in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == [item["incident"] for item in reader.incidents("default", limit=1000).items]
    assert len(set(seen)) == 5


def test_incidents_that_opened_at_the_same_moment_are_not_lost_between_pages(path: Path) -> None:
    fill(path, [row(n, START, firing(f"Same{n}", START)) for n in range(1, 8)])
    reader = StateReader(path)
    total = len(reader.incidents("default").items)
    seen: list[str] = []
    cursor = None
    for _ in range(total):
        page = reader.incidents("default", limit=1, cursor=cursor)
        seen += [item["incident"] for item in page.items]
        cursor = page.next
    assert cursor is None
    assert len(set(seen)) == total


def test_filters_hold_together(path: Path) -> None:
    reader = reader_of(path)
    critical = reader.incidents("default", severity="critical").items
    assert [item["title"].split()[0] for item in critical] == ["Alert003", "Alert000"]
    late = reader.incidents("default", severity="critical", since=START + timedelta(hours=3)).items
    assert len(late) == 1
    assert reader.incidents("default", states=(IncidentState.CLOSED,)).items == ()
    both = reader.incidents("default", states=(IncidentState.OPEN, IncidentState.CLOSED)).items
    assert len(both) == 5


def test_a_tenant_sees_its_own(path: Path) -> None:
    fill(path, [*apart(2), *apart(3, tenant="other", first=3)])
    reader = StateReader(path)
    assert len(reader.incidents("default").items) == 2
    assert len(reader.incidents(None).items) == 5
    foreign = reader.incidents("other").items[0]["incident"]
    own = {item["incident"] for item in reader.incidents("default").items}
    assert (reader.incident("default", foreign) is None) == (foreign not in own)
    assert reader.stats("other")["incidents"]["open"] == 3


def test_one_incident_has_its_episodes_links_and_events(path: Path) -> None:
    alerts = [
        alert({"alertname": "Disk", "device": name, "b": "2", "a": "1"}, starts=START) for name in "cab"
    ]
    fill(path, [row(1, START, webhook(alerts))])
    reader = StateReader(path)
    [item] = reader.incidents("default").items
    found = reader.incident("default", item["incident"])
    assert found is not None
    assert list(found)[: len(RECORD_FIELDS)] == RECORD_FIELDS
    assert [list(each) for each in found["episodes"]] == [EPISODE_FIELDS] * 3
    fingerprints = [each["fingerprint"] for each in found["episodes"]]
    assert fingerprints == sorted(fingerprints), "equal starts are ordered by fingerprint"
    assert list(found["episodes"][0]["labels"]) == ["a", "alertname", "b", "device"]
    assert [each["why"] for each in found["links"]] == [each["why"] for each in found["episodes"]]
    events = [msgspec.json.decode(event) for event in found["events"]]
    assert [event["kind"] for event in events] == ["opened"]
    assert events[0]["incident"]["id"] == item["incident"]
    assert msgspec.json.decode(msgspec.json.encode(found))["events"] == events


def test_what_could_not_be_used_is_kept_with_its_bytes(path: Path) -> None:
    body = webhook([alert({"alertname": "Good"}), {"status": "firing", "labels": 7}])
    fill(path, [row(1, START, body), row(2, START, body)])
    reader = StateReader(path)
    items = reader.quarantine("default").items
    assert [item["id"] for item in items] == [2, 1]
    assert items[0]["what"] == "alert"
    assert items[0]["body_bytes"] == len(b'{"status": "firing", "labels": 7}')
    entry = reader.quarantined("default", 1)
    assert entry is not None
    assert json.loads(entry.body) == {"status": "firing", "labels": 7}
    assert reader.quarantined("other", 1) is None
    page = reader.quarantine("default", limit=1)
    assert [item["id"] for item in reader.quarantine("default", limit=1, cursor=page.next).items] == [1]


def test_stats_name_what_is_held_back_and_was_never_told_of(path: Path) -> None:
    with closing(StateStore(path)) as store:
        desk = Desk(store)
        labels = {"labels": [{"key": "alertname", "value": "Hidden"}]}
        event = {"data": {"silenceMutedAlert": {"mutedAlert": {"labels": labels}}}}
        for when in ("0s", "60s"):
            desk.take(when, RowKind.RECORDED, json.dumps(event).encode())
    (hidden,) = StateReader(path).stats("default")["hidden"]
    assert hidden == {
        "alertname": "Hidden", "source": "default", "by": "silenced", "first_at": START,
        "last_at": START + timedelta(minutes=1),
    }  # fmt: skip
    assert StateReader(path).stats("other")["hidden"] == []


def test_stats_say_how_far_the_analyst_is(path: Path) -> None:
    stats = reader_of(path).stats("default")
    assert stats["cursor"] == 5
    assert stats["processed_until"] == START + timedelta(hours=4)
    assert stats["incidents"] == {"open": 5, "quiet": 0, "closed": 0, "merged": 0}
    assert (stats["episodes"], stats["episodes_firing"], stats["quarantined"]) == (5, 5, 0)


def test_exported_incidents_are_whole_and_in_the_order_of_their_opening(path: Path) -> None:
    reader = reader_of(path, 7)
    part = reader.incident_lines("default")
    records = [json.loads(line) for line in part.lines]
    assert part.next is None
    assert [list(record) for record in records] == [RECORD_FIELDS] * 7
    assert [record["opened_at"] for record in records] == sorted(record["opened_at"] for record in records)
    assert all(line.endswith(b"}\n") and line.count(b"\n") == 1 for line in part.lines)
    late = reader.incident_lines("default", since=START + timedelta(hours=5)).lines
    assert late == part.lines[5:]


def test_all_incidents_come_once_by_their_opening_whatever_a_page_holds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = reader_of(path, 7)
    whole = [each.id for each in reader.all_incidents()]
    assert len(set(whole)) == 7
    assert whole == [json.loads(line)["incident"] for line in reader.incident_lines(None).lines]
    for size in (1, 3, 7):
        monkeypatch.setattr("bridge.storage.reading.reader.PAGE_INCIDENTS", size)
        assert [each.id for each in reader.all_incidents()] == whole
    assert list(StateReader(path.with_name("none.db")).all_incidents()) == []


def test_parts_of_an_export_join_without_a_seam(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(path, 7)
    whole = reader.incident_lines(None).lines, reader.history_lines(None).lines
    monkeypatch.setattr("bridge.storage.reading.reader.PAGE_INCIDENTS", 3)
    monkeypatch.setattr("bridge.storage.reading.history.PAGE_BYTES", 1)
    for read, expected in zip((reader.incident_lines, reader.history_lines), whole, strict=True):
        lines: list[bytes] = []
        part = read(None)
        while part.next is not None:
            lines += part.lines
            part = read(None, after=part.next)
        assert (*lines, *part.lines) == expected


def test_the_history_is_replay_input(path: Path) -> None:
    pretty = json.dumps(json.loads(firing("Pretty", START)), indent=2).encode()
    fill(
        path,
        [settings_row(1, START), row(2, START, pretty), row(3, START, firing("Other", START), tenant="b")],
    )
    lines = [json.loads(line) for line in StateReader(path).history_lines(None).lines]
    assert lines[0]["kind"] == "settings"
    assert lines[0]["tenant"] == ""
    assert list(lines[1]) == ["received_at", "tenant", "source", "body"]
    assert lines[1]["body"] == json.loads(pretty)


def test_a_history_from_some_time_on_begins_with_what_was_in_force(path: Path) -> None:
    at = [START + timedelta(minutes=minute) for minute in range(6)]
    mode = row(3, at[1], b'{"model_free":true}', kind=RowKind.MODE)
    fill(
        path,
        [
            settings_row(1, at[0], AnalysisSettings(sensitivity=0.1)), row(2, at[0], firing("Old", START)), mode,
            settings_row(4, at[2], AnalysisSettings(sensitivity=0.2)), row(5, at[3], firing("New", START)),
            settings_row(6, at[4], AnalysisSettings(sensitivity=0.3)),
        ],
    )  # fmt: skip
    found = StateReader(path).history_lines(None, since=at[3])
    lines = [json.loads(line) for line in found.lines]
    assert [line.get("kind", "webhook") for line in lines] == ["mode", "settings", "webhook", "settings"]
    assert [line["body"].get("sensitivity") for line in lines] == [None, 0.2, None, 0.3]
    assert [line["received_at"] for line in lines] == [stamp(each) for each in (at[3], at[3], at[3], at[4])]
    assert len(StateReader(path).history_lines(None, since=at[5]).lines) == 2


def test_a_tenant_gets_the_settings_without_what_they_say_of_others(path: Path) -> None:
    settings = AnalysisSettings(
        sensitivity=0.7,
        sources=(Source(tenant="a", name="am-of-a"), Source(tenant="b", name="am-of-b")),
        destinations=(Destination(name="siem-of-a", wait_s=0.0), Destination(name="all", wait_s=0.0)),
        routes=(Route(tenant="a", to=("siem-of-a",)), Route(to=("all",))),
    )
    rows = [settings_row(1, START, settings), row(2, START, firing("A", START), tenant="a")]
    fill(path, [*rows, row(3, START, firing("B", START), tenant="b")])
    reader = StateReader(path)
    whole, of_a, of_b = (
        [json.loads(line) for line in reader.history_lines(tenant).lines] for tenant in (None, "a", "b")
    )
    assert [line["tenant"] for line in whole] == ["", "a", "b"]
    assert [line["tenant"] for line in of_a] == ["a", "a"]
    assert [line["tenant"] for line in of_b] == ["b", "b"]
    assert "siem-of-a" in json.dumps(of_a)
    assert "-of-a" not in json.dumps(of_b)
    assert of_b[0]["body"]["sensitivity"] == 0.7


@pytest.mark.parametrize("since", [None, after("10s")])
def test_a_tenant_gets_the_topology_of_all_and_its_own(path: Path, since: datetime | None) -> None:
    with closing(StateStore(path)) as store:
        desk = Desk(store)
        for tenant in ("", "east", "west"):
            desk.take("1s", RowKind.TOPOLOGY, msgspec.json.encode(TOPOLOGY), tenant)
        desk.fires("20s", host("Later", "a-1"))
    told = StateReader(path).history_lines("east", since=since).lines
    assert [json.loads(line)["tenant"] for line in told] == ["east", "east"]
    told = StateReader(path).history_lines(None, since=since).lines
    assert [json.loads(line)["tenant"] for line in told][:3] == ["", "east", "west"]


def test_what_was_found_and_recorded_goes_out_with_its_source_and_comes_in_again(path: Path) -> None:
    found = row(1, START, b'{"asked":1}', kind=RowKind.FOUND)
    recorded = row(2, START, b'[{"data":{}}]', kind=RowKind.RECORDED)
    grafana = row(3, START, b'{"alerts":[]}', kind=RowKind.GRAFANA)
    fill(path, [msgspec.structs.replace(each, source="prod") for each in (found, recorded, grafana)])
    back = [understand(line, tenant="other") for line in StateReader(path).history_lines(None).lines]
    assert [(each.kind, each.source, each.body) for each in back] == [
        (RowKind.FOUND, "prod", b'{"asked":1}'),
        (RowKind.RECORDED, "prod", b'[{"data":{}}]'),
        (RowKind.GRAFANA, "prod", b'{"alerts":[]}'),
    ]


def test_a_tenant_gets_the_starts_that_are_written_under_another(path: Path) -> None:
    """Silence counts from them for everybody."""
    started = row(2, START, b"{}", tenant="first", kind=RowKind.STARTED)
    fill(path, [settings_row(1, START), started, row(3, START, firing("B", START), tenant="b")])
    lines = [json.loads(line) for line in StateReader(path).history_lines("b").lines]
    assert [line.get("kind") for line in lines] == ["settings", "started", None]
    assert {line["tenant"] for line in lines} == {"b"}


def test_a_body_keeps_every_value_on_its_way_out(path: Path) -> None:
    """Numbers that no float holds and keys that stand twice go out as they came in."""
    body = b'{"alerts": [],\n "big": 123456789012345678901234567890, "huge": 1e400, "k": 1, "k": 2}'
    fill(path, [row(1, START, body)])
    [line] = StateReader(path).history_lines(None).lines
    assert b'"big":123456789012345678901234567890,"huge":1e400,"k":1,"k":2}' in line


def test_reading_beside_a_writer_sees_what_was_committed(path: Path) -> None:
    with closing(StateStore(path)):
        fill(path, apart(1))
        assert len(StateReader(path).incidents("default").items) == 1


def test_a_cursor_survives_its_text() -> None:
    cursor = Cursor(at=1, tenant="ä/?&", id="inc-1")
    assert read_cursor(write_cursor(cursor), "ä/?&") == read_cursor(write_cursor(cursor), None) == cursor


#: A cursor whose number no list can hold, as somebody might write it.
TOO_LARGE = base64.urlsafe_b64encode(msgspec.msgpack.encode({"at": 2**63})).decode()


@pytest.mark.parametrize("text", ["", "x", "!!!!", "AAAA", "é", "a" * 5000, TOO_LARGE])
def test_a_foreign_cursor_is_refused(path: Path, text: str) -> None:
    reader = reader_of(path, 1)
    with pytest.raises(ValueError, match="cursor"):
        reader.incidents("default", cursor=text)
    with pytest.raises(ValueError, match="cursor"):
        reader.quarantine("default", cursor=text)


def test_where_the_analyst_stands_is_told_per_front(path: Path) -> None:
    reader = reader_of(path, 3)
    found = reader.position(FRONT)
    assert found is not None
    assert (found.id, found.at_us) == (3, microseconds(START + timedelta(hours=2)))
    assert reader.position("front-2") is None
    assert StateReader(path.with_name("other.db")).position(FRONT) is None


# ---- models ----------------------------------------------------------------------------------------------


def test_a_tenant_that_learned_nothing_says_what_it_lacks(path: Path) -> None:
    [before] = StateReader(path).models("default")
    linker, counts = reader_of(path).models("default")
    assert (counts["name"], counts["model"]) == ("counts", "gamma-poisson")
    assert counts["series"] > 0
    assert [each["reason"] for each in (before, linker)] == [
        "0 of 300 alerts to learn from", "5 of 300 alerts to learn from",
    ]  # fmt: skip
    assert (linker["way"], linker["acts"], linker["fit"], linker["since"]) == ("bursts", False, None, None)
    assert (linker["of"], linker["evidence"]) == (None, [])


def test_a_linker_that_passed_its_exam_is_told_with_its_evidence_and_since_when(path: Path) -> None:
    came_at = START + timedelta(hours=7)
    fill(
        path,
        [*apart(2), linker_row(3, came_at, WON), row(4, came_at, firing("Other", came_at), tenant="other")],
    )
    linker, *_ = StateReader(path).models("default")
    assert (linker["name"], linker["acts"], linker["way"], linker["fit"]) == ("linker", True, "linker", 1)
    assert linker["since"] == came_at
    assert (linker["reason"], linker["forced_by_settings"]) == ("linker is best", False)
    assert (linker["pairs"], linker["labelled"], linker["families"]) == (40, 7, 2)
    assert (linker["units"], linker["examined"], linker["of"]) == (60, 24, "isolated bursts")
    assert [each["way"] for each in linker["evidence"]] == ["entities", "bursts", "linker"]
    assert linker["evidence"][2] == {
        "way": "linker",
        "f1": 0.9,
        "precision": 0.9,
        "recall": 0.9,
        "shift": 0.5,
    }
    [foreign] = StateReader(path).models("other")
    assert (foreign["acts"], foreign["fit"]) == (False, None)


def test_series_are_told_with_their_detectors_bounded_and_the_newest_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(StateStore(path)) as store:
        desk = mixed(store)
        more = msgspec.json.decode(samples("23m", [1.0]))
        desk.take("23m", RowKind.SAMPLES, msgspec.json.encode(more | {"name": "other"}))
    reader = StateReader(path)
    _, counts, other, load = reader.models("default")
    assert counts["series"] > 3
    assert (other["series"], other["values"], other["score"], other["unusual_since"]) == (
        'other{service="shop"}', 1, None, None,
    )  # fmt: skip
    assert (load["name"], load["series"], load["model"]) == ("series", 'load{service="shop"}', "shape")
    assert (load["values"], load["newest"], load["unusual_since"]) == (301, 1e9, after("22m"))
    assert 0.5 < load["score"] <= 1.0
    assert "the same shape every 2 min" in load["reason"]
    assert (load["trials"], load["challenger"], load["reviewed_at"], load["false_alarms"]) == (
        0,
        None,
        None,
        0,
    )
    assert reader.measured_until() == {
        ("default", "load"): after("22m").timestamp(), ("default", "other"): after("23m").timestamp(),
    }  # fmt: skip
    assert reader.models("foreign")[1:] == []
    monkeypatch.setattr(models, "MAX_SERIES", 1)
    assert [each["series"] for each in reader.models("default")[2:]] == ['other{service="shop"}']


def test_a_store_that_is_not_there_has_no_samples(path: Path) -> None:
    assert StateReader(path).measured_until() == {}


@pytest.mark.parametrize(
    ("settings", "learned", "way", "reason"),
    [
        (AnalysisSettings(grouping="bursts"), True, "bursts", "the configuration says `grouping: bursts`"),
        (AnalysisSettings(grouping="linker"), True, "linker", "the configuration says `grouping: linker`"),
        (AnalysisSettings(grouping="linker"), False, "bursts",
         "the configuration says `grouping: linker`, but 0 of 300 alerts to learn from"),
        (AnalysisSettings(models=False), False, "bursts", "nothing is learned: models are switched off"),
    ],
)  # fmt: skip
def test_settings_that_decide_are_the_reason(
    path: Path, settings: AnalysisSettings, learned: bool, way: str, reason: str
) -> None:
    fill(path, [settings_row(1, START, settings), *[linker_row(2, START, WON)] * learned])
    [linker] = StateReader(path).models("default")
    assert (linker["way"], linker["reason"]) == (way, reason)
    assert linker["forced_by_settings"] == (settings.grouping != "auto")
