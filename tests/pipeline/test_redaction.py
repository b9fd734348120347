"""What is taken out of a row is nowhere behind it: not in the state, the history, the quarantine or what leaves."""

from __future__ import annotations

import base64
import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
import timeline
import zstandard
from thinking import SHARING, Thinking, fires, listed, same
from timeline import START, after, row, webhook

from bridge import pipeline
from bridge.analysis.feedback import Feedback, FeedbackKind
from bridge.analysis.samples import Line, Samples
from bridge.analysis.settings import AnalysisSettings, Destination, Route
from bridge.model import InboxRow, RowKind
from bridge.pipeline import Common, Redacting, State
from bridge.redaction import Redact, Rule
from bridge.storage.reading import StateReader
from bridge.storage.state import StateStore

KEY = b"k" * 32
REDACT = Redact(
    labels=(Rule(name="user", action="hash"), Rule(name="x_token", action="drop")),
    email="mask", ip="hash", card="mask", phone="mask",
)  # fmt: skip
EVERYWHERE = msgspec.structs.replace(
    SHARING,
    redact=REDACT,
    destinations=(Destination(name="file", wait_s=0.0),),
    routes=(Route(to=("file",)),),
)
#: Each of another kind, with the text that it stands in.
PLANTS = {
    "hunter2secret": "postgres://app:hunter2secret@db/shop",
    "bob.smith@corp.example": "mail bob.smith@corp.example",
    "10.77.66.55": "on 10.77.66.55:9100",
    "4111 1111 1111 1111": "card 4111 1111 1111 1111",
    "+41 44 668 18 00": "call +41 44 668 18 00",
    "alice-the-user": "",
    "token-of-x": "",
}
SAID = " and ".join(PLANTS.values())
LABELS = {"user": "alice-the-user", "x_token": "token-of-x", "service": "shop", "detail": SAID}


def setting(settings: AnalysisSettings = EVERYWHERE) -> InboxRow:
    return row(1, START, msgspec.json.encode(settings), kind=RowKind.SETTINGS, tenant="")


def planted() -> list[InboxRow]:
    """Rows of every kind that can hold what somebody wrote, all of it planted."""
    alert = fires("LoginFailed", note=f"alice-the-user with token-of-x: {SAID}", **LABELS)
    broken = {"labels": {"user": "alice-the-user", "x_token": 5}, "annotations": SAID}
    rejected = {"reason": f"not JSON: {SAID}", "body_base64": base64.b64encode(
        f'{{"user": "alice-the-user", "x_token": "token-of-x", "a": "{SAID}'.encode()
    ).decode()}  # fmt: skip
    pairs = {
        "labels": [{"key": name, "value": value} for name, value in ({"alertname": "Held"} | LABELS).items()]
    }
    feedback = Feedback(
        action="act-1", kind=FeedbackKind.NOTE, incident="", text=SAID, author="bob.smith@corp.example"
    )
    seen = Samples(name="load", step_s=60.0, lines=(Line(labels=LABELS, points=((START.timestamp(), 1.0),)),))
    bodies: list[tuple[RowKind, bytes]] = [
        (RowKind.WEBHOOK, webhook([alert, broken, SAID], group=f'{{}}:{{user="alice-the-user", note="{SAID}"}}')),
        (RowKind.GRAFANA, webhook([{**alert, "labels": {**LABELS, "alertname": "G"}, "dashboardURL": f"http://g/{SAID}"}])),
        (RowKind.REJECTED, json.dumps(rejected).encode()),
        (RowKind.RECORDED, json.dumps([{"data": {"silenceMutedAlert": {"mutedAlert": {"labels": pairs}}}}, SAID]).encode()),
        (RowKind.FEEDBACK, msgspec.json.encode(feedback)),
        (RowKind.SAMPLES, msgspec.json.encode(seen)),
        (RowKind.WEBHOOK, f'{{"alerts": "{SAID}", "user": "alice-the-user", "x_token": "token-of-x"}}'.encode()),
    ]  # fmt: skip
    return [
        row(2 + number, after(f"{number + 1}s"), body, kind=kind)
        for number, (kind, body) in enumerate(bodies)
    ]


def run(folder: Path, rows: list[InboxRow], *, key: bytes = KEY) -> tuple[StateStore, list[Any]]:
    """Think rows through and store what came of them; return the store and the events."""
    store = StateStore(folder / "state.db")
    state, redacting = store.load(), Redacting(key)
    events = []
    for one in rows:
        outcome = pipeline.advance(state, [one], redacting=redacting)
        store.commit(outcome, front="front-1", rows=[one])
        events += outcome.events
    return store, events


def everything_in(path: Path) -> bytes:
    """Return all that stands in a store, unpacked."""
    found = []
    with sqlite3.connect(path) as db:
        for (table,) in db.execute("select name from sqlite_master where type = 'table'").fetchall():
            for each in db.execute(f"select * from {table}"):  # noqa: S608
                for value in each:
                    content = value if isinstance(value, bytes) else str(value).encode()
                    if content[:4] == b"\x28\xb5\x2f\xfd":
                        content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
                    found.append(content)
    return b"\n".join(found)


def test_nothing_that_is_planted_gets_into_the_state_or_out_of_it(tmp_path):
    store, events = run(tmp_path, [setting(), *planted()])
    store.close()
    kept = everything_in(tmp_path / "state.db") + (tmp_path / "state.db").read_bytes()
    reader = StateReader(tmp_path / "state.db")
    exported = b"".join([*reader.history_lines(None).lines, *reader.incident_lines(None).lines])
    for secret in PLANTS:
        assert secret.encode() not in kept, secret
        assert secret.encode() not in exported, secret
        assert secret not in repr(events), secret
    assert events
    assert b"<secret>" in kept


def test_the_quarantine_keeps_what_is_left(tmp_path):
    store, _ = run(tmp_path, [setting(), *planted()])
    store.close()
    reader = StateReader(tmp_path / "state.db")
    entries = [reader.quarantined("default", item["id"]) for item in reader.quarantine("default").items]
    assert len(entries) >= 5
    assert any(b"<masked>" in entry.body or b"<hash:" in entry.body for entry in entries if entry)


def test_a_row_that_nobody_can_read_is_redacted_without_being_parsed():
    redacting = Redacting(KEY)
    for one in planted():
        kept = redacting.unread(one, EVERYWHERE)
        assert b"hunter2secret" not in kept.body
        assert b"alice-the-user" not in kept.body


def test_what_was_understood_before_is_left_alone():
    one = row(1, START, b'{"model": "password=x", "vectors": {}}', kind=RowKind.VECTORS)
    assert Redacting(KEY).row(one, EVERYWHERE) is one


def test_a_resolve_finds_its_firing_although_its_labels_were_changed():
    run = Thinking(EVERYWHERE)
    labels = {"service": "shop", "user": "alice-the-user", "x_token": "token-of-x"}
    run.hears("0s", fires("Login", **labels))
    run.hears("60s", timeline.alert({"alertname": "Login", **labels}, ends=after("60s")))
    assert run.counts["change:first_seen"] == run.counts["change:resolved"] == 1
    assert not run.tenant.firing


def test_hashed_labels_still_tell_apart_and_put_together():
    run = Thinking(EVERYWHERE)
    for number, user in enumerate(("alice", "bob", "alice")):
        run.hears(f"{number}s", fires(f"Login{number}", user=f"{user}-the-user"))
    users = [episode.labels["user"] for group in run.tenant.groups.values() for episode in group.newest()]
    assert len(users) == 3
    assert len(set(users)) == 2


def test_settings_act_from_their_row_on():
    run = Thinking(msgspec.structs.replace(SHARING, redact=Redact(secrets="keep")))
    run.hears("0s", fires("First", note="password=hunter2secret"))
    run.settings("1s", EVERYWHERE)
    run.hears("2s", fires("Second", note="password=hunter2secret"))
    told = {
        episode.name: episode.annotations["summary"]
        for group in run.tenant.groups.values()
        for episode in group.newest()
    }
    assert told == {"First": "password=hunter2secret", "Second": "password=<secret>"}


def test_a_tenant_may_have_rules_of_its_own():
    own = msgspec.structs.replace(EVERYWHERE, tenant_redacts={"other": Redact(secrets="hash")})
    run = Thinking(own)
    run.hears("0s", fires("A", user="alice-the-user"))
    run.hears("0s", fires("A", user="alice-the-user", note="password=hunter2secret"), tenant="other")
    (mine,) = run.tenant.groups.values()
    (theirs,) = run.state.tenants["other"].groups.values()
    assert mine.newest()[0].labels["user"].startswith("<hash:")
    assert theirs.newest()[0].labels["user"] == "alice-the-user"
    assert theirs.newest()[0].annotations["summary"].startswith("password=<secret:")


def test_a_listed_alert_is_redacted_like_one_that_was_sent():
    run = Thinking(EVERYWHERE)
    run.finds("60s", listed("Login", user="alice-the-user", service="shop"))
    assert run.group.newest()[0].labels["user"].startswith("<hash:")


def test_a_restart_after_every_row_changes_nothing(tmp_path):
    run = Thinking(EVERYWHERE)
    for one in planted()[:2]:
        run.rows.append(one)
        run.take(pipeline.advance(run.state, [one]))
    assert same(run, run.restarted(tmp_path))


def test_what_is_exported_and_replayed_gives_the_same(tmp_path):
    (tmp_path / "again").mkdir()
    store, events = run(tmp_path, [setting(), *planted()])
    store.close()
    lines = [json.loads(line) for line in StateReader(tmp_path / "state.db").history_lines(None).lines]
    rows = [
        row(number, one.received_at, json.dumps(line["body"]).encode(), kind=RowKind(line.get("kind", "webhook")), tenant=line["tenant"])
        for number, (one, line) in enumerate(
            zip([each for each in [setting(), *planted()] if each.kind is not RowKind.REJECTED], lines, strict=True), 1
        )
    ]  # fmt: skip
    other, again = run(tmp_path / "again", rows, key=b"another key, since none is needed any more")
    other.close()
    assert [msgspec.json.encode(event) for event in again] == [msgspec.json.encode(event) for event in events]


def test_redactions_are_counted_by_kind():
    run = Thinking(EVERYWHERE)
    run.hears("0s", fires("A", note="password=hunter2secret", user="alice-the-user"))
    assert run.counts["redacted:secrets"] == 1
    assert run.counts["redacted:label"] >= 1


def test_no_redactor_is_needed_to_be_safe():
    state = State(Common())
    outcome = pipeline.advance(state, [row(1, START, webhook([fires("A", note="password=hunter2secret")]))])
    assert "hunter2secret" not in repr(outcome.rows) + repr(outcome.events)


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_batches_change_nothing(batch):
    rows = [setting(), *planted()]
    state, redacting = State(Common()), Redacting(KEY)
    kept, events = [], []
    for start in range(0, len(rows), batch):
        outcome = pipeline.advance(state, rows[start : start + batch], redacting=redacting)
        kept += outcome.rows
        events += outcome.events
    one = pipeline.advance(State(Common()), rows, redacting=Redacting(KEY))
    assert (kept, events) == (one.rows, one.events)
