"""Feedback from a file in a replay: at its time, with its faults told, and the same as what an export holds of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from timeline import START, alert, stamp, webhook

from bridge.app import exporting, feedback
from bridge.app.replay import Wishes, replay

ALERTS = {
    name: alert({"alertname": name, "host": host, "cluster": cluster, "severity": "warning"}, starts=START)
    for name, host, cluster in (("Node", "db-1", "a"), ("Disk", "db-1", "a"), ("Cert", "mail-9", "b"))
}


def moment(minutes: float) -> str:
    return stamp(START + timedelta(minutes=minutes))


def recording(path: Path) -> Path:
    """Three alerts in two incidents; all end after 20 minutes."""
    lines = []
    for minutes, names in ((0, ("Node", "Disk")), (1, ("Cert",))):
        lines.append(
            {"received_at": moment(minutes), "body": json.loads(webhook([ALERTS[each] for each in names]))}
        )
    over = [{**each, "status": "resolved", "endsAt": moment(20)} for each in ALERTS.values()]
    lines.append({"received_at": moment(20), "body": json.loads(webhook(over))})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def prints(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Return how an episode of each alert is named."""
    run(tmp_path, incidents=tmp_path / "plain")
    found = {}
    for line in (tmp_path / "plain").read_text().splitlines():
        for episode in json.loads(line)["episodes"]:
            found[episode["labels"]["alertname"]] = {
                key: episode[key] for key in ("fingerprint", "starts_at")
            }
    return found


def said(path: Path, *lines: dict[str, Any] | str) -> Path:
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines))
    return path


def run(tmp_path: Path, *, heard: list[str] | None = None, **wishes: Any):
    say = [].append if heard is None else heard.append
    return replay([str(recording(tmp_path / "webhooks.jsonl"))], Wishes(no_models=True, **wishes), say=say)


def grouped(path: Path) -> set[frozenset[str]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        frozenset(e["labels"]["alertname"] for e in each["episodes"]) for each in records if each["episodes"]
    }


def test_corrections_act_at_their_time(tmp_path: Path) -> None:
    named = prints(tmp_path)
    assert grouped(tmp_path / "plain") == {frozenset({"Node", "Disk"}), frozenset({"Cert"})}
    cases: list[tuple[dict[str, Any], set[frozenset[str]]]] = [
        ({"kind": "merge", "episodes": [named["Disk"], named["Cert"]]}, {frozenset({"Node", "Disk", "Cert"})}),
        ({"kind": "split", "episodes": [named["Disk"]]}, {frozenset({each}) for each in named}),
        (
            {"kind": "move", "episodes": [named["Disk"]], "to": named["Cert"]},
            {frozenset({"Node"}), frozenset({"Disk", "Cert"})},
        ),
        ({"kind": "move", "episodes": [named["Disk"]]}, {frozenset({each}) for each in named}),
    ]  # fmt: skip
    for line, groups in cases:
        file = said(tmp_path / "fb.jsonl", {"at": moment(5)} | line)
        run(tmp_path, feedback=file, incidents=tmp_path / "out", events=tmp_path / "events")
        assert grouped(tmp_path / "out") == groups
        events = [json.loads(each) for each in (tmp_path / "events").read_text().splitlines()]
        assert {each["at"] for each in events if each["kind"] in {"merged", "split", "updated"}} >= {
            moment(5)
        }


def test_an_undo_names_a_line_or_an_id(tmp_path: Path) -> None:
    named = prints(tmp_path)
    line = {"at": moment(5), "kind": "merge", "episodes": [named["Disk"], named["Cert"]]}
    first = next(iter(feedback.read(said(tmp_path / "fb.jsonl", line), tenant="default").places))
    for undoes in (1, first):
        file = said(tmp_path / "fb.jsonl", line, {"at": moment(6), "kind": "undo", "action": undoes})
        run(tmp_path, feedback=file, incidents=tmp_path / "out")
        assert grouped(tmp_path / "out") == {frozenset({"Node", "Disk"}), frozenset({"Cert"})}


def test_lines_need_no_order_and_keep_it_at_equal_times(tmp_path: Path) -> None:
    file = said(
        tmp_path / "fb.jsonl",
        {"at": moment(6), "kind": "note", "text": "c"},
        {"at": moment(5), "kind": "note", "text": "a"},
        {"at": moment(5), "kind": "note", "text": "b"},
    )
    rows = feedback.read(file, tenant="default").rows
    assert [json.loads(row.body)["text"] for row in rows] == ["a", "b", "c"]


def test_bad_lines_and_what_is_refused_are_told_with_their_place(tmp_path: Path) -> None:
    file = said(
        tmp_path / "fb.jsonl",
        "{",
        {"at": "2026-01-05T03:05:00", "kind": "note"},
        {"at": "0001-01-01T00:00:00Z", "kind": "note"},
        {"at": moment(5), "kind": "nonsense"},
        {"at": moment(5), "kind": "note", "txt": "mistyped"},
        {"at": moment(5), "kind": "undo", "action": 9},
        {"at": moment(5), "kind": "note", "text": "x" * 5000},
        "[" * 100_000,
        {"at": moment(5), "kind": "ack", "episodes": [{"fingerprint": "f", "starts_at": moment(0)}]},
    )
    heard: list[str] = []
    summary = run(tmp_path, heard=heard, feedback=file)
    assert summary.bad_lines == 8
    assert [each.split(": ")[0].rpartition(":")[2] for each in heard] == list("123456789")
    assert heard[-1].startswith(f"{file}:9: ack was refused: the episode of f that began")


@pytest.mark.parametrize("batch", [1, 256])
def test_an_export_replays_its_feedback_to_the_same_bytes(tmp_path: Path, batch: int) -> None:
    named = prints(tmp_path)
    file = said(
        tmp_path / "fb.jsonl",
        {"at": moment(5), "kind": "merge", "episodes": [named["Disk"], named["Cert"]], "author": "mia"},
        {"at": moment(6), "kind": "root", "episodes": [named["Disk"]]},
        {"at": moment(7), "kind": "close", "episodes": [named["Node"]], "confirm": True},
        {"at": moment(8), "kind": "undo", "action": 1},
    )
    run(
        tmp_path,
        feedback=file,
        store=tmp_path / "store",
        incidents=tmp_path / "first",
        events=tmp_path / "told",
    )
    exporting.write(
        exporting.lines_of(tmp_path / "store", "webhooks"), tmp_path / "out", "webhooks", lambda _: None
    )
    exported = tmp_path / "out" / "webhooks.jsonl"
    assert exported.read_text().count('"kind":"feedback"') == 4
    wishes = Wishes(
        no_models=True, batch=batch, until=datetime.now(UTC), incidents=tmp_path / "second",
        events=tmp_path / "again",
    )  # fmt: skip
    replay([str(exported)], wishes, say=[].append)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert (tmp_path / "told").read_bytes() == (tmp_path / "again").read_bytes()
