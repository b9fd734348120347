"""The loop inbox -> outcome, with stores of a few lines and time that the test turns."""

# ruff: noqa: ARG002 - what stands in for something keeps its signature

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.analyst import ASIDE_LIMIT, Analyst, Work
from bridge.errors import DamagedError, MisplacedError, StorageError
from bridge.model import InboxRow, RowKind
from bridge.turns import Reached, Waiting

START = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int, body: bytes = b"") -> InboxRow:
    return InboxRow(
        id=number, received_at=START + timedelta(seconds=number), tenant="t", source="s", kind=RowKind.WEBHOOK,
        body=body,
    )  # fmt: skip


class Made:
    """An outcome: what the batch made."""

    def __init__(self, ids: list[int], asks: list[str]) -> None:
        self.ids = ids
        self.asks = asks
        self.counts = {"alerts": len(ids)}


class Bench:
    """An inbox, a store, a pipeline and models around one analyst. The state is the list of ids it took in."""

    def __init__(self, rows: Sequence[InboxRow], work: Work | None = None) -> None:
        self.rows = list(rows)
        self.kept: list[int] = []
        self.aside: list[int] = []
        self.set_aside: list[tuple[bytes, str]] = []
        self.batches: list[list[int]] = []
        self.at = 0
        self.ahead: dict[str, int] = {}
        self.behinds: list[frozenset[str]] = []
        self.loads = 0
        self.pruned: list[datetime] = []
        self.too_old = self.to_erase = 0  # calls of `prune` that leave something over
        self.up = False
        self.mode: bool | None = False  # whether thinking goes with models; None: nobody asks
        self.modes: list[tuple[int, bool]] = []  # after how many rows which mode began
        self.own_asks: list[str] = []  # what a row of the analyst's own makes it ask
        self.asked: list[str] = []
        self.answered: list[Any] = []
        self.words: list[Mapping[str, Any]] = []
        self.now = 0.0
        self.broken: Callable[[], None] = lambda: None  # raises while a store does not work
        self.analyst: Analyst[list[int]] = Analyst(
            inbox=self, store=self, thinking=self, models=self, say=self.words.append,
            clock=lambda: self.now, work=work,
        )  # fmt: skip
        self.analyst.load()

    def read(self, after: int, max_rows: int, max_bytes: int) -> list[InboxRow]:
        return [row for row in self.rows if row.id > after][:max_rows]

    def newest_id(self) -> int:
        return self.rows[-1].id

    def waiting(self, after: int, max_rows: int) -> list[Waiting]:
        found = [row for row in self.rows if row.id > after][:max_rows]
        return [Waiting(row.id, row.id, row.tenant, row.kind, len(row.body)) for row in found]

    def fetch(self, ids: Sequence[int]) -> list[InboxRow]:
        return [row for row in self.rows if row.id in ids]

    def advance(
        self,
        state: list[int],
        rows: Sequence[InboxRow],
        *,
        behind: Collection[str] | None,
        progress: Callable[[], None],
    ) -> Made:
        assert state == self.kept, "thinking goes on from a spoilt state"
        if behind is not None:
            self.behinds.append(frozenset(behind))
        if rows[0].kind is RowKind.MODE:
            if rows[0].body == b"poison":
                raise ZeroDivisionError("no such luck")
            self.mode = rows[0].body == b"with"
            self.modes.append((len(state), self.mode))
            return Made([], self.own_asks)
        asks = []
        for one in rows:
            progress()
            state.append(one.id)  # memory is changed before the fault, as in the real pipeline
            if one.body == b"poison":
                raise ZeroDivisionError("no such luck, hush")
            if one.body == b"ask":
                asks.append(f"vectors for {one.id}")
        return Made([one.id for one in rows], asks)

    def load(self) -> list[int]:
        self.broken()
        self.loads += 1
        return list(self.kept)

    def cursor(self, front: str) -> int:
        return self.at

    def taken(self, front: str) -> dict[str, int]:
        return dict(self.ahead)

    def commit(
        self,
        outcome: Made,
        *,
        front: str,
        rows: Sequence[InboxRow],
        reached: Reached | None,
        progress: Callable[[], None],
    ) -> None:
        self.broken()
        progress()
        if rows[-1].id and reached is not None:
            self.batches.append(outcome.ids)
            self.kept += outcome.ids
            self.move(rows, reached)

    def move(self, rows: Sequence[InboxRow], reached: Reached) -> None:
        self.at = reached.id
        self.ahead = {name: row for name, row in self.ahead.items() if row > reached.id}
        self.ahead |= {row.tenant: row.id for row in rows if row.id > reached.id}

    def own_row(self, state: list[int], following: InboxRow | None, *, models_up: bool) -> InboxRow | None:
        if self.mode is None or self.mode is models_up:
            return None
        return msgspec.structs.replace(row(0, b"with" if models_up else b"without"), kind=RowKind.MODE)

    def unread(self, row: InboxRow) -> InboxRow:
        return msgspec.structs.replace(row, body=row.body.replace(b"poison", b"<masked>"))

    def tellable(self, text: str, tenant: str) -> str:
        return text.replace("hush", "<secret>") if tenant else text

    def quarantine_row(self, row: InboxRow, reason: str, *, front: str, reached: Reached) -> None:
        self.broken()
        self.aside.append(row.id)
        self.set_aside.append((row.body, reason))
        self.move([row], reached)

    def prune(self, state: list[int], now: datetime) -> bool:
        self.pruned.append(now)
        self.too_old -= 1
        return self.too_old >= 0

    def erase(self, state: list[int], *, progress: Callable[[], None]) -> bool:
        progress()
        self.to_erase -= 1
        return self.to_erase >= 0

    def gauges(self, state: list[int]) -> Mapping[str, float]:
        return {"taken": len(state)}

    def outstanding(self, state: list[int]) -> list[str]:
        return [f"vectors for {number}" for number in state]

    def ask(self, ask: str) -> None:
        self.asked.append(ask)

    def answers(self) -> list[Any]:
        answered, self.answered = self.answered, []
        return answered

    def run(self, steps: int = 10_000) -> None:
        while steps and self.analyst.step():
            steps -= 1

    def said(self, word: str) -> list[Mapping[str, Any]]:
        return [message for message in self.words if message["say"] == word]


def test_rows_become_one_batch_that_is_begun_and_committed():
    bench = Bench([row(1), row(2), row(3)])
    bench.run()
    assert bench.batches == [[1, 2, 3]]
    assert [word["say"] for word in bench.words] == [
        "alive",
        "ready",
        "gauges",
        "begin",
        "saving",
        "committed",
        "gauges",
    ]
    assert bench.said("begin") == [{"say": "begin", "from": 1, "to": 3, "bytes": 0, "alerts": 0}]
    committed = bench.said("committed")[0]
    assert (committed["cursor"], committed["rows"], committed["counters"]) == (3, 3, {"alerts": 3})
    assert committed["at"] == "2026-01-01T00:00:03+00:00"
    assert bench.said("gauges")[-1]["gauges"] == {"taken": 3}


def test_it_goes_on_behind_the_cursor_of_the_store():
    bench = Bench([row(1), row(2)])
    bench.run()
    again = Bench([row(1), row(2), row(3)])
    again.at = 2
    again.analyst.load()
    again.run()
    assert again.batches == [[3]]


def test_a_row_that_raises_is_set_aside_and_every_other_is_kept():
    bench = Bench([row(number, b"poison" if number == 4 else b"") for number in range(1, 8)])
    bench.run()
    assert bench.aside == [4]
    assert bench.kept == [1, 2, 3, 5, 6, 7]
    assert bench.said("aside")[0]["reason"] == "ZeroDivisionError: no such luck, <secret>"
    assert "advance" in bench.said("failed")[0]["trace"]


def test_what_is_set_aside_or_said_of_a_row_is_redacted():
    bench = Bench([row(1, b"poison"), row(2, b"poison")], Work(skips=frozenset({1})))
    bench.run()
    assert [body for body, _ in bench.set_aside] == [b"<masked>"] * 2
    assert "hush" not in repr(bench.words) + repr(bench.set_aside)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 9))
def test_whatever_is_poisoned_nothing_else_is_lost(poisoned: list[bool], max_rows: int):
    poisoned = [poison and sum(poisoned[:place]) < ASIDE_LIMIT for place, poison in enumerate(poisoned)]
    bench = Bench(
        [row(place, b"poison" if poison else b"") for place, poison in enumerate(poisoned, 1)],
        Work(max_rows=max_rows),
    )
    bench.run()
    assert bench.aside == [place for place, poison in enumerate(poisoned, 1) if poison]
    assert bench.kept == [place for place, poison in enumerate(poisoned, 1) if not poison]


def test_a_fault_of_ours_does_not_empty_the_inbox_into_the_quarantine():
    bench = Bench([row(number, b"poison") for number in range(1, 100)])
    bench.run()
    assert len(bench.aside) == ASIDE_LIMIT
    assert "fault of Tocsin" in bench.said("trouble")[-1]["reason"]
    before = len(bench.aside)
    bench.now += 2.0
    bench.run()
    assert len(bench.aside) == before


def test_a_store_that_does_not_commit_blames_no_row_and_heals_by_itself():
    bench = Bench([row(1), row(2)])

    def full() -> None:
        raise StorageError("no space left")

    bench.broken = full
    bench.run()
    bench.now += 2.0
    bench.run()
    assert bench.aside == []
    assert [word["reason"] for word in bench.said("trouble")] == ["a store does not work: no space left"] * 2
    bench.broken = lambda: None
    bench.now += 2.0
    bench.run()
    assert bench.batches == [[1, 2]]


def test_it_rests_before_a_store_is_tried_again():
    bench = Bench([row(1)])
    tries = []

    def full() -> None:
        tries.append(bench.now)
        raise StorageError("no space left")

    bench.broken = full
    for _ in range(5):
        bench.analyst.step()
    assert tries == [0.0]


def test_rows_that_killed_analysts_are_set_aside_untouched():
    bench = Bench([row(1), row(2, b"poison"), row(3, b"poison"), row(4)], Work(skips=frozenset({2, 3})))
    bench.run()
    assert bench.aside == [2, 3]
    assert bench.batches == [[1], [4]]
    assert bench.said("failed") == []


def test_suspected_rows_go_one_at_a_time():
    bench = Bench([row(number) for number in range(1, 7)], Work(careful_through=3))
    bench.run()
    assert bench.batches == [[1], [2], [3], [4, 5, 6]]


def test_asks_are_handed_over_after_the_commit_and_answers_are_offered_as_rows():
    bench = Bench([row(1, b"ask")])
    bench.run()
    assert bench.asked == ["vectors for 1"]

    class Vectors:
        kind, tenant, body = "vectors", "t", '{"model":"m"}'

    bench.answered.append(Vectors())
    bench.run()
    assert bench.said("row") == [{"say": "row", "kind": "vectors", "tenant": "t", "body": '{"model":"m"}'}]


def test_what_the_models_never_answered_is_asked_again():
    bench = Bench([row(1), row(2)])
    bench.run()
    bench.analyst.ask_again()
    assert bench.asked == ["vectors for 1", "vectors for 2"]


def test_a_long_batch_says_alive_once_a_second():
    bench = Bench([row(number) for number in range(1, 201)])
    real = bench.advance

    def slow(
        state: list[int],
        rows: Sequence[InboxRow],
        *,
        behind: Collection[str] | None,
        progress: Callable[[], None],
    ) -> Made:
        for _ in range(100):
            bench.now += 0.1
            progress()
        return real(state, rows, behind=behind, progress=progress)

    bench.advance = slow  # type: ignore[method-assign]
    bench.words.clear()
    bench.run()
    assert 9 <= len(bench.said("alive")) <= 12


def test_old_rows_are_deleted_by_the_time_of_the_rows_and_not_often():
    bench = Bench([row(1)])
    bench.run()
    bench.run()
    assert bench.pruned == [START + timedelta(seconds=1)]
    bench.now += 601.0
    bench.run()
    assert len(bench.pruned) == 2


def test_what_is_left_over_of_the_old_rows_goes_soon_and_between_batches_too():
    bench = Bench([row(1)])
    bench.too_old = 3
    bench.run()
    for number in range(2, 10):
        bench.rows.append(row(number))
        bench.now += 1.0
        assert bench.analyst.step()
    assert len(bench.pruned) == 4
    bench.now += 601.0
    bench.run()
    assert len(bench.pruned) == 5


def test_the_size_of_a_batch_is_said_before_it_is_worked_on():
    bench = Bench([row(1, b'{"startsAt": 1}, {"startsAt": 2}'), row(2, b'"startsAt"')])
    bench.run()
    begun = bench.said("begin")[0]
    assert (begun["bytes"], begun["alerts"]) == (42, 3)


def test_the_mode_begins_with_a_row_of_its_own_in_front_of_what_is_read_next():
    """At first, when the models join, and when they died: without a row of the inbox, and without moving the cursor."""
    bench = Bench([row(1), row(2)])
    bench.mode = True  # as an analyst left it that was killed
    bench.run()
    bench.up = True
    bench.run()
    bench.rows += [row(3), row(4)]
    bench.run()
    bench.up = False
    bench.rows.append(row(5))
    bench.run()
    assert bench.modes == [(0, False), (2, True), (4, False)]
    assert bench.batches == [[1, 2], [3, 4], [5]]
    assert bench.at == 5


def test_what_a_row_of_its_own_made_is_counted_and_asked_like_any_other():
    bench = Bench([row(1)])
    bench.own_asks = ["a fit"]
    bench.up = True
    bench.run()
    assert bench.asked == ["a fit"]
    said = [word["say"] for word in bench.words]
    assert said.index("counted") < said.index("begin")
    assert bench.said("counted") == [{"say": "counted", "counters": {"alerts": 0}}]
    assert [word["cursor"] for word in bench.said("committed")] == [1]


def test_a_mode_that_could_not_be_stored_is_tried_again():
    bench = Bench([row(1)])
    bench.mode = True

    def full() -> None:
        raise StorageError("no space left")

    bench.broken = full
    bench.run()
    assert bench.batches == []
    bench.broken, bench.mode = lambda: None, True  # the state is loaded anew
    bench.now += 2.0
    bench.run()
    assert bench.modes[-1] == (0, False)
    assert bench.batches == [[1]]


def test_a_row_of_its_own_that_raises_stops_nothing():
    bench = Bench([row(1), row(2)])
    bench.own_row = lambda *_, **__: msgspec.structs.replace(row(0, b"poison"), kind=RowKind.MODE)  # type: ignore[method-assign]
    bench.run()
    assert bench.batches == [[1, 2]]
    assert bench.aside == []
    assert [(word["from"], word["to"]) for word in bench.said("failed")] == [(0, 0)]


@pytest.mark.parametrize("error", [DamagedError("malformed"), MisplacedError("gone")])
def test_a_store_that_cannot_be_mended_ends_the_loop(error: StorageError):
    bench = Bench([row(1)])

    def broken() -> None:
        raise error

    bench.broken = broken
    with pytest.raises(type(error)):
        bench.run()


@pytest.mark.parametrize("steps", [1, 2])
def test_an_idle_analyst_loads_nothing_again(steps: int):
    bench = Bench([])
    for _ in range(steps):
        assert not bench.analyst.step()
    assert bench.loads == 1


# ---- several tenants ---------------------------------------------------------------------------------------


def of(tenant: str, number: int, body: bytes = b"x" * 1000) -> InboxRow:
    return msgspec.structs.replace(row(number, body), tenant=tenant)


def test_a_tenant_that_storms_does_not_keep_another_waiting():
    storm = [of("storm", number) for number in range(1, 1001)]
    bench = Bench([*storm, of("quiet", 1001)], Work(max_rows=10, max_bytes=10_000))
    bench.run(3)
    assert 1001 in bench.kept
    assert bench.behinds[-1] == {"storm"}
    bench.run()
    assert sorted(bench.kept) == list(range(1, 1002))
    assert bench.analyst.cursor == 1001
    assert bench.behinds[-1] == frozenset()


def test_what_went_first_is_not_thought_again_after_a_failure():
    storm = [of("storm", number, b"poison" if number == 30 else b"x" * 1000) for number in range(1, 101)]
    bench = Bench([*storm, of("quiet", 101)], Work(max_rows=10, max_bytes=10_000))
    bench.run()
    assert bench.aside == [30]
    assert sorted(bench.kept) == [number for number in range(1, 102) if number != 30]


def test_a_row_that_killed_analysts_is_set_aside_when_its_turn_comes():
    storm = [of("storm", number) for number in range(1, 101)]
    work = Work(max_rows=10, max_bytes=10_000, skips=frozenset({17}))
    bench = Bench([*storm, of("quiet", 101)], work)
    bench.run()
    assert bench.aside == [17]
    assert sorted(bench.kept) == [number for number in range(1, 102) if number != 17]


def test_the_cursor_stays_before_the_oldest_row_that_waits():
    storm = [of("storm", number) for number in range(1, 101)]
    bench = Bench([*storm, of("quiet", 101)], Work(max_rows=10, max_bytes=10_000))
    while 101 not in bench.kept:
        bench.run(1)
    assert bench.analyst.cursor < 100
    assert bench.said("committed")[-1]["cursor"] == bench.analyst.cursor == max(bench.kept[:-1], default=0)


def test_batches_are_short_where_another_tenant_may_wait_for_their_end():
    rows = [of("a" if number % 2 else "b", number, b"x" * 10_000) for number in range(1, 401)]
    bench = Bench(rows)
    real = bench.advance

    def slow(
        state: list[int], rows: Sequence[InboxRow], *, behind: Collection[str] | None,
        progress: Callable[[], None],
    ) -> Made:  # fmt: skip
        bench.now += 0.05 * len(rows)
        return real(state, rows, behind=behind, progress=progress)

    bench.advance = slow  # type: ignore[method-assign]
    bench.run()
    assert sorted(bench.kept) == list(range(1, 401))
    assert max(len(batch) for batch in bench.batches[-20:]) <= 4
