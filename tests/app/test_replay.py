"""The replay driver: same bytes however the rows are cut, faults told, stores that serve can go on from."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from timeline import START, alert, stamp, webhook

from bridge import pipeline
from bridge.analysis.families import FitAsk
from bridge.analysis.text import template_of
from bridge.analysis.topology import Chart, Service
from bridge.app import exporting
from bridge.app import replay as room
from bridge.app.models import ModelRow
from bridge.app.replay import Wishes, replay
from bridge.app.storm import calls
from bridge.app.summary import Summary
from bridge.errors import ConfigError, StorageError
from bridge.model import RowKind, Template
from bridge.storage.inbox import InboxReader
from bridge.storage.state import StateStore
from bridge.webhooks.alertmanager import parse


class Texts:
    """Answers like the models' process: at the second look, with vectors made of the text."""

    def __init__(self) -> None:
        self._asked: list[tuple[str, tuple[Template, ...]]] = []
        self._looked = False

    @property
    def waiting(self) -> int:
        return len(self._asked)

    def submit_encode(self, tenant: str, templates: Iterable[Template]) -> bool:
        self._asked.append((tenant, tuple(templates)))
        return True

    def submit_fit(self, ask: FitAsk) -> None:  # noqa: ARG002
        raise AssertionError("so few templates are not fitted")

    def poll(self) -> list[ModelRow]:
        self._looked = not self._looked
        if self._looked:
            return []
        answers = [
            ModelRow(tenant=tenant, kind=RowKind.VECTORS, body=json.dumps({
                "model": "test", "vectors": {each.id: vector(each.text) for each in templates}
            }))
            for tenant, templates in self._asked
        ]  # fmt: skip
        self._asked = []
        return answers

    def close(self) -> None:
        pass


def vector(text: str) -> str:
    return base64.b64encode(
        (text.encode() * 768)[:768].translate(bytes(b & 0x3B for b in range(256)))
    ).decode()


@pytest.fixture(autouse=True)
def _quick_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ModelsProcess", Texts)


def storm(path: Path) -> Path:
    """Write the demo's storm as a recording."""
    with path.open("w") as file:
        for call in calls(START):
            at = START + timedelta(seconds=call.at_s)
            json.dump({"received_at": stamp(at), "body": json.loads(call.body)}, file)
            file.write("\n")
    return path


def run(*files: Path, **wishes: Any) -> Summary:
    heard: list[str] = []
    return replay([str(file) for file in files], Wishes(**wishes), say=heard.append)


def test_a_storm_becomes_one_incident_beside_what_is_unrelated(tmp_path: Path) -> None:
    summary = run(storm(tmp_path / "storm.jsonl"), incidents=tmp_path / "incidents.jsonl")
    records = [json.loads(line) for line in (tmp_path / "incidents.jsonl").read_bytes().splitlines()]
    assert sorted(len(record["episodes"]) for record in records) == [1, 76]
    assert {record["state"] for record in records} == {"closed"}, "time ran on until all were over"
    assert (summary.webhooks, summary.alerts, summary.episodes) == (87, 233, 77)
    assert summary.biggest[0].alerts == 76
    assert "77 episodes of firing in 2 incidents (0 merged)" in summary.text()
    assert json.dumps(summary.record())


def test_without_models_nobody_keeps_what_they_would_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording of a year asks a great deal."""
    runs: list[Any] = []

    class Watched(room._Run):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            runs.append(self)

    monkeypatch.setattr(room, "_Run", Watched)
    run(storm(tmp_path / "storm.jsonl"), no_models=True)
    assert [made._asks for made in runs] == [[]]


@pytest.mark.parametrize("is_model_free", [True, False])
def test_the_size_of_batches_changes_no_byte(tmp_path: Path, *, is_model_free: bool) -> None:
    recording = storm(tmp_path / "storm.jsonl")
    seen = set()
    for batch in (1, 7, 256):
        out = tmp_path / f"{batch}.incidents", tmp_path / f"{batch}.events"
        run(recording, batch=batch, no_models=is_model_free, incidents=out[0], events=out[1])
        seen.add((out[0].read_bytes(), out[1].read_bytes()))
    assert len(seen) == 1


def test_what_was_exported_replays_to_the_same_bytes_without_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vectors stand in the export, so nothing is encoded anew."""
    run(storm(tmp_path / "storm.jsonl"), store=tmp_path / "store", incidents=tmp_path / "first")
    exporting.write(exporting.lines_of(tmp_path / "store", "webhooks"), tmp_path, "webhooks", lambda _: None)
    exported = tmp_path / "webhooks.jsonl"
    kinds = {json.loads(line).get("kind", "webhook") for line in exported.read_bytes().splitlines()}
    assert kinds == {"webhook", "vectors"}

    def refuse() -> Texts:
        raise AssertionError("models were started")

    monkeypatch.setattr(room, "ModelsProcess", refuse)
    now = datetime.now(UTC)
    run(exported, until=now, incidents=tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    exporting.write(exporting.lines_of(tmp_path / "store", "jsonl"), tmp_path, "jsonl", lambda _: None)
    assert (tmp_path / "incidents.jsonl").read_bytes() == (tmp_path / "first").read_bytes()


def recorded(path: Path, *lines: dict[str, Any]) -> str:
    """Write lines, a minute apart, into a recording."""
    at = (stamp(START + timedelta(minutes=minute)) for minute in range(len(lines)))
    path.write_text("".join(json.dumps({"received_at": next(at)} | line) + "\n" for line in lines), "utf-8")
    return str(path)


def one(name: str) -> dict[str, Any]:
    return {"body": json.loads(webhook([alert({"alertname": name})], group=name))}


MODE = {"kind": "mode", "body": {"model_free": False}}


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ([one("First"), one("Second")], {"First", "Second"}),
        ([MODE, one("First"), one("Second")], set()),  # all that was told live is there, if only that
        ([MODE | {"partial": True}, one("First"), one("Second")], {"First", "Second"}),
        ([MODE | {"partial": True}, one("First"), {"kind": "vectors"}, one("Second")], {"First"}),
    ],
)
def test_only_what_a_recording_does_not_answer_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, Any]], asked: set[str]
) -> None:
    texts: set[str] = set()

    class Noted(Texts):
        def submit_encode(self, tenant: str, templates: Iterable[Template]) -> bool:
            texts.update(each.text.partition(":")[0] for each in templates)
            return super().submit_encode(tenant, templates)

    monkeypatch.setattr(room, "ModelsProcess", Noted)
    parsed = parse(json.dumps(one("Second")["body"]).encode(), tenant="t", source="s").alerts[0]
    second = {"model": "test", "vectors": {template_of(parsed).id: vector("Second")}}
    lines = [line if line.get("kind") != "vectors" else line | {"body": second} for line in lines]
    last = one("Last")  # which lets the answers to the others in, and is not asked about itself
    replay([recorded(tmp_path / "r.jsonl", *lines, last)], Wishes(), say=lambda _: None)
    assert texts == asked


def test_events_are_written_as_they_leave(tmp_path: Path) -> None:
    summary = run(storm(tmp_path / "storm.jsonl"), events=tmp_path / "events.jsonl")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert len(events) == summary.events
    assert {event["schema"] for event in events} == {"tocsin.event/1"}
    by_incident: dict[str, list[int]] = {}
    for event in events:
        by_incident.setdefault(event["incident"]["id"], []).append(event["seq"])
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in by_incident.values())


def test_until_leaves_what_is_not_over_open(tmp_path: Path) -> None:
    summary = run(
        storm(tmp_path / "storm.jsonl"), until=START + timedelta(seconds=30), incidents=tmp_path / "out"
    )
    states = {json.loads(line)["state"] for line in (tmp_path / "out").read_bytes().splitlines()}
    assert states == {"open", "quiet"}
    assert summary.incidents == 2


def test_bad_lines_are_told_and_counted(tmp_path: Path) -> None:
    path = storm(tmp_path / "storm.jsonl")
    path.write_bytes(b"nonsense\n" + path.read_bytes() + b"{}\n" * 30)
    heard: list[str] = []
    summary = replay([str(path)], Wishes(), say=heard.append)
    assert summary.bad_lines == 31
    assert heard[0].startswith(f"{path}:1: ")
    assert len(heard) == 11
    assert heard[-1] == f"{path}: and 21 more bad lines"
    assert summary.webhooks == 87


def test_nothing_to_replay_is_said(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    assert "nothing to replay" in run(path).text()


def test_settings_of_a_file_act_unless_a_configuration_is_named(tmp_path: Path) -> None:
    told = json.loads(msgspec.json.encode(room.AnalysisSettings(unknown_severity="info")))
    body = json.loads(webhook([alert({"alertname": "Odd", "severity": "purple"})]))
    path = tmp_path / "with-settings.jsonl"
    path.write_text(
        json.dumps({"received_at": stamp(START), "tenant": "", "kind": "settings", "body": told}) + "\n"
        + json.dumps({"received_at": stamp(START), "body": body}) + "\n"
    )  # fmt: skip
    config = tmp_path / "tocsin.yaml"
    config.write_text("analysis: {severities: {purple: critical}}\n")
    assert run(path).biggest[0].severity == "info"
    assert run(path, config=config).biggest[0].severity == "critical"


def test_an_incident_is_written_with_its_causal_graph(tmp_path: Path) -> None:
    topology, out = tmp_path / "topology.yaml", tmp_path / "incidents.jsonl"
    topology.write_text("services: [{name: shop, calls: [db]}, {name: db}]")
    body = webhook([
        alert({"alertname": "DbSlow", "service": "db", "cluster": "x", "namespace": "web"}, starts=START),
        alert({"alertname": "ShopErrors", "service": "shop", "cluster": "x", "namespace": "web"},
              starts=START + timedelta(seconds=12)),
    ])  # fmt: skip
    recording = tmp_path / "a.jsonl"
    at = stamp(START + timedelta(seconds=20))
    recording.write_text(f'{{"received_at": "{at}", "body": {body.decode()}}}\n')
    run(recording, topology=topology, incidents=out, no_models=True)
    record = json.loads(out.read_bytes())
    assert [node["name"] for node in record["causal_graph"]["nodes"]] == ["DbSlow", "ShopErrors"]
    (edge,) = record["causal_graph"]["edges"]
    assert (edge["from"], edge["to"], edge["word"], edge["lag_s"]) == (0, 1, "precedes", 12.0)
    assert edge["why"] == "12 s before; shop calls db (topology file)"


def test_a_topology_that_is_named_takes_the_place_of_what_was_recorded(tmp_path: Path) -> None:
    recorded = msgspec.json.encode(Chart(origin="prometheus", services=(Service(name="old"),))).decode()
    webhooks = tmp_path / "a.jsonl"
    webhooks.write_text(
        f'{{"received_at": "{stamp(START)}", "tenant": "default", "kind": "topology", "body": {recorded}}}\n'
        f'{{"received_at": "{stamp(START)}", "body": {webhook([alert({"alertname": "A"})]).decode()}}}\n'
    )
    named, config = tmp_path / "topology.yaml", tmp_path / "tocsin.yaml"
    named.write_text("services: [{name: shop, calls: [db]}]")
    config.write_text(f"topology: {{file: {named}}}\nsources: []")
    (tmp_path / "other.yaml").write_text("services: [{name: mail}]")
    told: list[str] = []

    def services(store: str, **wishes: Any) -> list[str]:
        wanted = Wishes(store=tmp_path / store, no_models=True, **wishes)
        replay([str(webhooks)], wanted, say=told.append)
        with closing(StateStore(tmp_path / store / "state.db")) as state:
            return [service.name for service in state.load().topology_of("default").services()]

    assert services("recorded") == ["old"]
    assert told == []
    assert services("named", topology=named) == ["shop", "db"]
    assert told == [
        f"{named}:1: services.shop.calls[0]: is no service of this file and is taken for one outside, which calls nothing"
    ]
    assert services("configured", config=config) == ["shop", "db"]
    assert services("both", config=config, topology=tmp_path / "other.yaml") == ["mail"]
    named.write_text("services: [{nam: shop}]")
    with pytest.raises(ConfigError, match=r"topology.yaml:1: services\[0\].nam: unknown key"):
        services("broken", topology=named)


def test_a_row_that_breaks_the_analysis_is_set_aside_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = pipeline.advance

    def fragile(state: Any, rows: Any, **more: Any) -> Any:
        if any(b"Poison" in row.body for row in rows):
            raise ZeroDivisionError("a bug")
        return advance(state, rows, **more)

    monkeypatch.setattr(pipeline, "advance", fragile)
    path = tmp_path / "poison.jsonl"
    with path.open("w") as file:
        for number, name in enumerate(("Good", *["Poison"] * 12, "Fine")):
            at = START + timedelta(hours=number)
            body = json.loads(webhook([alert({"alertname": name}, starts=at)], group=f"{{}}:{{n={number}}}"))
            file.write(json.dumps({"received_at": stamp(at), "body": body}) + "\n")
    heard: list[str] = []
    summary = replay([str(path)], Wishes(no_models=True), say=heard.append)
    assert (summary.incidents, summary.quarantined, summary.bad_lines) == (2, 12, 12)
    assert "ZeroDivisionError: a bug" in heard[0]
    assert len(heard) == 10, "the rest is in the count"


# ---- a store to go on from ---------------------------------------------------------------------------------


def test_a_stored_replay_delivers_nothing_and_its_inbox_goes_on_after_it(tmp_path: Path) -> None:
    home = tmp_path / "store"
    config = tmp_path / "tocsin.yaml"
    config.write_text("destinations: [{name: file, kind: file, path: out.jsonl}]\nroutes: [{to: [file]}]\n")
    run(storm(tmp_path / "storm.jsonl"), store=home, no_models=True, config=config)
    with closing(StateStore(home / "state.db")) as store:
        cursor = store.cursor("front-1")
        state = store.load()
        assert store._db.execute("select count(*) from outbox").fetchone() == (0,)
    assert cursor == 89, "the settings, 87 webhooks and the clock"
    assert state.common.settings.routes[0].to == ("file",)
    with closing(InboxReader(home / "inbox.db")) as inbox:
        assert inbox.newest_id() == cursor
        assert inbox.read(cursor, 10, 1 << 20) == []
        [last] = inbox.read(cursor - 1, 10, 1 << 20)
    assert last.received_at == state.common.clock <= datetime.now(UTC)


def test_a_stored_replay_has_told_nobody_who_would_then_hear_of_ends_alone(tmp_path: Path) -> None:
    home, config = tmp_path / "store", tmp_path / "tocsin.yaml"
    config.write_text("destinations: [{name: file, kind: file, path: out.jsonl}]\nroutes: [{to: [file]}]\n")
    until = START + timedelta(seconds=30)
    run(storm(tmp_path / "storm.jsonl"), store=home, no_models=True, config=config, until=until)
    with closing(StateStore(home / "state.db")) as store:
        groups = [group for tenant in store.load().tenants.values() for group in tenant.groups.values()]
    assert {group.head.state.value for group in groups} <= {"open", "quiet"}
    assert len(groups) == 2
    assert not any(group.progress.told for group in groups)


def test_a_store_is_never_written_over(tmp_path: Path) -> None:
    recording = storm(tmp_path / "storm.jsonl")
    run(recording, store=tmp_path / "store", no_models=True)
    before = (tmp_path / "store" / "state.db").read_bytes()
    with pytest.raises(StorageError, match="already holds"):
        run(recording, store=tmp_path / "store", no_models=True)
    assert (tmp_path / "store" / "state.db").read_bytes() == before


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        run(storm(tmp_path / "storm.jsonl"), events=tmp_path / "no" / "events.jsonl")


def test_hashes_are_those_of_the_sidecar_whose_configuration_it_is(tmp_path: Path):
    """With the key beside its stores, and a state that `serve` goes on from takes that key along."""
    recording = tmp_path / "one.jsonl"
    recording.write_bytes(webhook([alert({"alertname": "A", "user": "alice"})]) + b"\n")
    file = tmp_path / "tocsin.yaml"
    file.write_text(
        f"storage: {{path: {tmp_path}/data}}\nredact: {{labels: [{{name: user, action: hash}}]}}\nanalysis: {{models: false}}\n"
    )

    def user(out: str, **wishes: Any) -> tuple[str, list[str]]:
        said: list[str] = []
        replay([str(recording)], Wishes(config=file, events=tmp_path / out, **wishes), say=said.append)
        event = json.loads((tmp_path / out).read_text().splitlines()[0])
        return event["incident"]["episodes"][0]["labels"]["user"], said

    without, said = user("without")
    assert "there is no key of hashes" in said[0]
    assert user("again")[0] == without
    (tmp_path / "data").mkdir()
    key = "0123456789abcdef" * 4
    (tmp_path / "data/redact.key").write_text(key)
    hashed, said = user("with")
    assert hashed != without
    assert said == []
    assert user("stored", store=tmp_path / "store")[0] == hashed
    assert (tmp_path / "store/redact.key").read_text() == key
