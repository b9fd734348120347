"""A large webhook, a tick at which much is due and a large commit say that they are being worked on."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import timeline
from timeline import START, after, webhook

from bridge.model import RowKind
from bridge.pipeline import Common, State, advance
from bridge.pipeline.path import PROGRESS_STEPS
from bridge.storage.state import StateStore
from bridge.storage.state.writing import PROGRESS_ROWS

ALERTS = 1000


class Signs:
    """Counts signs of life."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self) -> None:
        self.seen += 1


def large() -> bytes:
    return webhook(
        [
            timeline.alert({"alertname": "Big", "pod": f"pod-{number}"}, starts=START)
            for number in range(ALERTS)
        ]
    )


def test_a_large_webhook_and_its_many_alarms_show_progress(tmp_path: Path) -> None:
    state, signs = State(Common()), Signs()
    row = timeline.row(1, START, large())
    outcome = advance(state, [row], progress=signs)
    assert signs.seen >= ALERTS // PROGRESS_STEPS
    with closing(StateStore(tmp_path / "state.db")) as store:
        signs.seen = 0
        store.commit(outcome, front="front-1", rows=[row], progress=signs)
        assert signs.seen >= 2 * (ALERTS // PROGRESS_ROWS)  # episodes and watches at least
    signs.seen = 0
    advance(state, [timeline.row(2, after("9h"), b"", kind=RowKind.CLOCK)], progress=signs)
    assert signs.seen >= ALERTS // PROGRESS_STEPS
