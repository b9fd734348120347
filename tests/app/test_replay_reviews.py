"""Detectors that are reviewed on the way: the same bytes each time, and from its export without asking anybody."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from timeline import START, stamp

from bridge.analysis import reviewing
from bridge.analysis.gate import LinkAsk
from bridge.analysis.reviewing import ReviewAsk, Reviews
from bridge.analysis.samples import Line, Samples
from bridge.app import exporting
from bridge.app import replay as room
from bridge.app.models import ModelRow
from bridge.app.replay import Wishes, replay
from bridge.model import RowKind, Template
from bridge.storage.state import StateStore


class Reviewing:
    """Answers like the models' process, but reviews here, by class alone."""

    reviewed = 0

    def __init__(self) -> None:
        self._asked: list[ReviewAsk] = []

    @property
    def waiting(self) -> int:
        return len(self._asked)

    def submit_encode(self, tenant: str, templates: Iterable[Template]) -> bool:  # noqa: ARG002
        return True

    def submit_link(self, ask: LinkAsk) -> None:  # noqa: ARG002
        raise AssertionError("there are no alerts")

    def submit_review(self, ask: ReviewAsk) -> None:
        self._asked.append(ask)

    def poll(self) -> list[ModelRow]:
        asked, self._asked = self._asked, []
        type(self).reviewed += len(asked)
        return [
            ModelRow(tenant=ask.tenant, kind=RowKind.REVIEWS, body=reviewing.told(Reviews(
                fit=ask.fit, reviews=tuple(reviewing.reviewed(ask.series, with_trials=False)),
            )).decode())
            for ask in asked
        ]  # fmt: skip

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _reviewing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ModelsProcess", Reviewing)
    monkeypatch.setattr(Reviewing, "reviewed", 0)


def recording(path: Path) -> Path:
    """Write two days of a series that is silent at first and has a level later."""
    lines = []
    for number in range(2 * 288):
        at = START + timedelta(seconds=300 * number)
        value = random.Random(number).gauss(50.0, 2.0) if number > 230 else float(number % 50 == 0)
        line = Line(labels={}, points=((at.timestamp(), value),))
        body = msgspec.to_builtins(Samples(name="load", step_s=300.0, lines=(line,)))
        lines.append({"received_at": stamp(at + timedelta(seconds=9)), "kind": "samples", "body": body})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(file: Path, **wishes: object) -> None:
    replay([str(file)], Wishes(**wishes), say=lambda _: None)  # type: ignore[arg-type]


def picture(home: Path) -> bytes:
    with closing(StateStore(home / "state.db")) as store:
        state = store.load()
    (known,) = state.tenants["default"].measured.values()
    assert known.standing.model == "spot", "counts were chosen first, the review saw more"
    assert known.standing.reason == "one value 90% of the time"
    return state.picture()


def test_a_replay_that_reviews_on_the_way_comes_to_the_same_and_its_export_asks_nobody(
    tmp_path: Path,
) -> None:
    until = START + timedelta(days=2)
    heard = recording(tmp_path / "heard.jsonl")
    run(heard, store=tmp_path / "store", until=until)
    asked = Reviewing.reviewed
    assert asked >= 1
    first = picture(tmp_path / "store")
    run(heard, store=tmp_path / "other", batch=7, until=until)
    assert picture(tmp_path / "other") == first
    assert Reviewing.reviewed == 2 * asked

    exporting.write(exporting.lines_of(tmp_path / "store", "webhooks"), tmp_path, "webhooks", lambda _: None)
    exported = tmp_path / "webhooks.jsonl"
    kinds = [json.loads(line).get("kind") for line in exported.read_bytes().splitlines()]
    assert kinds.count("reviews") == asked
    run(exported, store=tmp_path / "third", until=until)
    assert picture(tmp_path / "third") == first
    assert Reviewing.reviewed == 2 * asked, "what a recording answers is not asked"
