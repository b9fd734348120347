"""A linker that is learned on the way: the same bytes each time, and from its export without asking anybody."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from timeline import START, alert, stamp, webhook

from bridge.analysis import gate
from bridge.analysis.families import FitAsk
from bridge.analysis.gate import LinkAsk
from bridge.analysis.settings import AnalysisSettings
from bridge.app import exporting
from bridge.app import replay as room
from bridge.app.models import ModelRow
from bridge.app.replay import Wishes, replay
from bridge.model import RowKind, Template
from bridge.storage.state import StateStore


class Learning:
    """Answers like the models' process, but learns here; texts stay without vectors."""

    learned = 0

    def __init__(self) -> None:
        self._asked: list[LinkAsk] = []

    @property
    def waiting(self) -> int:
        return len(self._asked)

    def submit_encode(self, tenant: str, templates: Iterable[Template]) -> bool:  # noqa: ARG002
        return True

    def submit_fit(self, ask: FitAsk) -> None:  # noqa: ARG002
        raise AssertionError("so few templates are not fitted")

    def submit_link(self, ask: LinkAsk) -> None:
        self._asked.append(ask)

    def poll(self) -> list[ModelRow]:
        asked, self._asked = self._asked, []
        type(self).learned += len(asked)
        return [
            ModelRow(tenant=ask.tenant, kind=RowKind.LINKER, body=gate.linker_row(gate.fit(ask)).decode())
            for ask in asked
        ]

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _learning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ModelsProcess", Learning)
    monkeypatch.setattr(Learning, "learned", 0)


def recording(path: Path, settings: AnalysisSettings) -> Path:
    """Write two faults of six kinds each that come back for a day and a half, and noise: some 350 alerts."""
    dice = random.Random(5)
    told: list[tuple[float, str, str]] = []
    for number in range(50):
        at_s, fault = number * 2700.0 + dice.uniform(0, 300), number % 2
        told += [
            (at_s + kind * 4, f"Fault{fault}Kind{kind}", f"{('shop', 'pay')[fault]}-{kind}")
            for kind in range(6)
        ]
        told.append((at_s + dice.uniform(900, 1800), f"Noise{number % 5}", f"n-{dice.randrange(9)}"))
    calls: list[tuple[float, bytes]] = []
    for at_s, name, service in told:
        starts = START + timedelta(seconds=at_s)
        labels = {"alertname": name, "service": service}
        calls.append((at_s, webhook([alert(labels, starts=starts)], group=name)))
        over = alert(labels, starts=starts, ends=starts + timedelta(seconds=240))
        calls.append((at_s + 240, webhook([over], group=name)))
    lines = [
        {"received_at": stamp(START), "tenant": "", "kind": "settings", "body": msgspec.to_builtins(settings)}
    ]
    lines += [
        {"received_at": stamp(START + timedelta(seconds=at_s)), "body": json.loads(body)}
        for at_s, body in sorted(calls)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(file: Path, **wishes: object) -> None:
    replay([str(file)], Wishes(**wishes), say=lambda _: None)  # type: ignore[arg-type]


@pytest.mark.timeout(120)
def test_a_replay_that_learns_on_the_way_gives_the_same_bytes_and_its_export_asks_nobody(
    tmp_path: Path,
) -> None:
    settings = AnalysisSettings(grouping="linker")
    heard = recording(tmp_path / "heard.jsonl", settings)
    run(heard, store=tmp_path / "store", incidents=tmp_path / "first")
    assert Learning.learned >= 1
    with closing(StateStore(tmp_path / "store" / "state.db")) as store:
        (tenant,) = (each for each in store.load().tenants.values() if each.sightings)
    assert tenant.link_fit is not None
    assert tenant.link_fit.verdict.units >= 30

    first = (tmp_path / "first").read_bytes()
    told = [episode["why"] for line in first.splitlines() for episode in json.loads(line)["episodes"]]
    assert any("(p=" in why for why in told), "the linker took part"
    learned = Learning.learned
    run(heard, incidents=tmp_path / "second", batch=7)
    assert (tmp_path / "second").read_bytes() == first
    assert Learning.learned == 2 * learned

    exporting.write(exporting.lines_of(tmp_path / "store", "webhooks"), tmp_path, "webhooks", lambda _: None)
    exported = tmp_path / "webhooks.jsonl"
    kinds = [json.loads(line).get("kind") for line in exported.read_bytes().splitlines()]
    assert kinds.count("linker") == learned
    run(exported, incidents=tmp_path / "third")
    assert (tmp_path / "third").read_bytes() == first
    assert Learning.learned == 2 * learned, "what a recording answers is not asked"
