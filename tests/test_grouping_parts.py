"""What benchmarks/grouping.py is made of: its worlds, how they are sent, who corrects, and who is called."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from benchmarks.parts import baselines, recorded
from benchmarks.parts.pages import called
from benchmarks.parts.person import body_of, feedback_lines, operator
from benchmarks.parts.played import Page, Played, play
from benchmarks.parts.storms import storm
from benchmarks.parts.streams import Firing, Stream, first_of_each, webhooks
from bridge.analysis.feedback import Feedback

T0 = datetime(2026, 3, 2, tzinfo=UTC)
DIGEST = """
import hashlib
from benchmarks.parts.storms import storm
from benchmarks.parts.streams import webhooks
print(hashlib.sha256(b"".join(body for _, body in webhooks(storm(3, days=0.5, reported_days=0.2).firings))).hexdigest())
"""


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def firing(name: str, start_s: float, end_s: float, incident: str = "i", **labels: str) -> Firing:
    return Firing(
        labels={"alertname": name, "cluster": "c", **labels}, annotations={}, starts_at=at(start_s), ends_at=at(end_s),
        incident=incident,
    )  # fmt: skip


def said(told: list[tuple[datetime, bytes]]) -> list[tuple[float, list[tuple[str, str]]]]:
    return [
        (round((when - T0).total_seconds(), 1),
         [(alert["labels"]["alertname"], alert["status"]) for alert in json.loads(body)["alerts"]])
        for when, body in told
    ]  # fmt: skip


# ---- worlds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hash_seed", ["0", "77"])
def test_a_seed_gives_the_same_bytes_whatever_the_hash_seed(hash_seed: str) -> None:
    root = Path(__file__).parents[1]
    given = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", DIGEST], env=given, capture_output=True, text=True, check=True
    )
    bodies = [body for _, body in webhooks(storm(3, days=0.5, reported_days=0.2).firings)]
    assert done.stdout.strip() == hashlib.sha256(b"".join(bodies)).hexdigest()


def test_seeds_are_different_worlds() -> None:
    one, other = ({each.labels.get("pod") for each in storm(seed, days=0.5).firings} for seed in (1, 2))
    assert len(one & other) < len(one) / 4


def test_no_alert_fires_twice_at_a_time() -> None:
    until: dict[str, datetime] = {}
    for each in storm(1, days=1).firings:
        assert each.fingerprint not in until or each.starts_at > until[each.fingerprint]
        until[each.fingerprint] = each.ends_at


def test_the_topology_file_knows_most_calls_and_not_all() -> None:
    stream = storm(1, days=0.1)
    known = sum(len(service["calls"]) for service in stream.topology)
    assert 60 < known < 130
    assert {name for service in stream.topology for name in service["calls"]} <= {
        service["name"] for service in stream.topology
    }


def test_what_tocsin_makes_of_a_world_has_every_episode_under_its_own_identity() -> None:
    stream = storm(1, days=0.3, reported_days=0.2)
    played = play(stream, None)
    assert stream.firings
    assert played.unheard(stream.firings) == 0


# ---- how alerts are sent -------------------------------------------------------------------------------


def test_a_group_is_told_after_its_wait_and_then_when_something_changed() -> None:
    told = webhooks([firing("A", 0, 100), firing("A", 20, 40, pod="p")], group_wait_s=5, group_interval_s=30)
    assert said(told) == [
        (5.2, [("A", "firing")]),
        (35.2, [("A", "firing"), ("A", "firing")]),
        (65.2, [("A", "firing"), ("A", "resolved")]),
        (125.2, [("A", "resolved")]),
    ]


def test_groups_are_told_apart_and_their_webhooks_come_in_order() -> None:
    told = webhooks([firing("A", 0, 50), firing("B", 1, 30)])
    assert [when for when, _ in said(told)] == [5.2, 6.2, 36.2, 65.2]


def test_a_group_without_news_repeats_itself() -> None:
    assert [when for when, _ in said(webhooks([firing("A", 0, 4000)]))] == [5.2, 3605.2, 4025.2]


def test_an_alert_that_returns_soon_under_its_incident_is_one_item() -> None:
    listed = [firing("A", 0, 10), firing("A", 100, 110), firing("A", 200, 210, "j"), firing("A", 9000, 9010)]
    assert first_of_each(listed) == [listed[0], listed[2], listed[3]]


# ---- baselines -----------------------------------------------------------------------------------------


def test_alertmanager_groups_last_as_long_as_something_fires() -> None:
    items = [firing("A", 0, 100), firing("A", 90, 200, pod="p"), firing("B", 91, 95), firing("A", 400, 500)]
    groups = baselines.alertmanager(items, ("alertname", "cluster"))
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


def test_a_gap_ends_a_session_of_its_cluster_only() -> None:
    items = [firing("A", 0, 1), firing("A", 50, 51, cluster="d"), firing("B", 61, 62), firing("B", 100, 101)]
    groups = baselines.time_gap(items, 60)
    assert groups == [("c", 1), ("d", 1), ("c", 2), ("c", 2)]


def test_a_baseline_is_chosen_by_the_training_part() -> None:
    training = [firing("A", 0, 1, "i"), firing("B", 40, 41, "i"), firing("C", 140, 141, "j")]
    tries = [(f"gap {gap}", lambda items, gap=gap: baselines.time_gap(items, gap)) for gap in (10, 60, 200)]
    choice = baselines.chosen(training, [firing("A", 0, 1), firing("B", 70, 71)], tries, "f1")
    assert choice.how.startswith("gap 60 ")
    assert len(set(choice.groups)) == 2


# ---- recorded alerts -----------------------------------------------------------------------------------


def test_a_recording_is_set_apart_and_condensed(tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    file.write_text(
        "ts,entity,host_or_caller,kind,text,incident,rc_level,rc_entity,rc_type\n"
        "1000,cart-1,node-5,metric,cpu is up,0,pod,cart-1,x\n"
        "1030,cart-1,node-5,metric,cpu is up,0,pod,cart-1,x\n"
        "1100,cart-1,node-5,metric,cpu is up,0,pod,cart-1,x\n"
        "9999,shop,cart-1,trace,PD on a/b called by cart-1,0,pod,cart-1,x\n"
        "50000,shop,cart-1,trace,PD on a/b called by cart-1,1,pod,cart-1,x\n"
    )
    stream = recorded.ops(file, 300)
    assert [(each.incident, (each.starts_at - recorded.START).total_seconds()) for each in stream.firings] == [
        ("0", 0), ("0", 100), ("1", 300 + recorded.CUT_S + recorded.BETWEEN_S),
    ]  # fmt: skip
    assert [len(stream.rows[each.key]) for each in stream.firings] == [2, 1, 1]
    assert [each.incident for each in stream.items(reported=True)] == ["1"]
    first, _, last = (each.labels for each in stream.firings)
    assert first["alertname"] == "metric cpu is up"
    assert (first["pod"], first["service"], first["node"]) == ("cart-1", "cart", "node-5")
    assert (last["alertname"], last["operation"], last["caller"]) == ("trace PD", "a/b", "cart-1")


@pytest.mark.parametrize(
    ("entity", "labels"),
    [
        ("cartservice2-0", {"pod": "cartservice2-0", "service": "cartservice"}),
        ("redis-cart-0", {"pod": "redis-cart-0", "service": "redis-cart"}),
        ("webservice1", {"pod": "webservice1", "service": "webservice"}),
        ("frontend", {"service": "frontend"}),
        ("node-4", {"instance": "node-4"}),
        ("0.0.0.2", {"instance": "0.0.0.2"}),
    ],
)
def test_the_entity_of_a_recorded_row_becomes_labels(entity: str, labels: dict[str, str]) -> None:
    row = {"kind": "metric", "text": "x is up", "entity": entity, "host_or_caller": ""}
    found = recorded.ops_labels(row, "c")
    assert {name: found[name] for name in found.keys() & {"pod", "service", "instance"}} == labels


# ---- the operator --------------------------------------------------------------------------------------

A1, A2, A3, B1, N1 = (("default", name, T0) for name in ("a1", "a2", "a3", "b1", "n1"))
TRUTH = {A1: "A", A2: "A", A3: "A", B1: "B", N1: "N"}


def lines(home: dict, *names: str) -> list[tuple[str, list[str]]]:
    members: dict[str, list] = {}
    for key, one in home.items():
        members.setdefault(one, []).append(key)
    wanted = {name: [key for key in home if TRUTH[key] == name] for name in names}
    told = feedback_lines(
        wanted, incident_of=home.__getitem__, members_of=lambda one: members.get(one, ()), truth=TRUTH, at=T0
    )
    for line in told:
        msgspec.json.decode(body_of(line, 1), type=Feedback)  # as the pipeline reads it
    return [
        (
            line["kind"],
            [each["fingerprint"] for each in [*line["episodes"], *([line["to"]] if "to" in line else [])]],
        )
        for line in told
    ]


def test_what_is_right_is_called_useful() -> None:
    assert lines({A1: "1", A2: "1", A3: "1", B1: "2"}, "A", "B") == [("useful", ["a1"])]


def test_what_is_foreign_is_split_off_once() -> None:
    assert lines({A1: "1", A2: "1", A3: "1", B1: "1", N1: "1"}, "A", "B", "N") == [
        ("split", ["b1"]),
        ("split", ["n1"]),
    ]


def test_a_part_that_stands_alone_is_merged_and_one_among_strangers_moved() -> None:
    assert lines({A1: "1", A2: "1", A3: "2"}, "A") == [("merge", ["a3", "a1"])]
    assert lines({A1: "1", A2: "1", A3: "2", B1: "2"}, "A") == [("move", ["a3", "a1"])]


def test_the_operator_speaks_of_what_ended_since_the_last_look_and_only_on_the_days_asked_for() -> None:
    day_s = 86_400.0
    listed = [
        firing("A", start_s, start_s + 60, str(start_s)) for start_s in (100.0, day_s + 100, 2 * day_s + 100)
    ]
    listed += [firing("B", one.starts_at.timestamp() - T0.timestamp(), 0, one.incident) for one in listed]
    stream = Stream(name="s", firings=listed, split_at=at(2 * day_s))
    played = Played(home={each.key: each.incident for each in listed})
    say = operator(stream, 1)
    looks = [start_s + 600 for start_s in (0.0, day_s, 2 * day_s)]
    assert [len(say(at(look_s), played)) for look_s in looks] == [0, 1, 0]
    assert not say(at(day_s + 1200), played)


# ---- who is called -------------------------------------------------------------------------------------


def test_pages_are_counted_by_dedup_key_and_criticals_by_where_they_stand() -> None:
    critical = {"severity": "critical"}
    listed = [
        firing("A", 10, 20, "i", **critical),
        firing("B", 12, 20, "i", **critical),
        firing("C", 15, 20, "j", **critical),
        firing("D", 16, 20, "k"),
    ]
    stream = Stream(name="s", firings=listed, split_at=T0)
    played = Played(
        home={listed[0].key: "1", listed[1].key: "2", listed[2].key: "3", listed[3].key: "1"},
        into={"2": "4"},
        pages=[
            Page(at(11), "1", "opened", "1/e0"), Page(at(11), "1", "updated", "1/e0"), Page(at(13), "2", "opened", "2/e0"),
        ],
    )  # fmt: skip
    found = called(stream, played)
    assert (found.deserving, found.pages, found.missed, found.again, found.for_nothing) == (2, 2, 1, 1, 0)
