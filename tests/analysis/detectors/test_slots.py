"""Slots: rows of columns grow, are forgotten, and come back equal."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from bridge.analysis.detectors.slots import Column, Slots


class Kept(Slots):
    COLUMNS = (Column("mean", first=np.nan), Column("recent", "<f4", (3,)), Column("count", "<i8", first=-1))


class Other(Slots):
    COLUMNS = (Column("mean"),)


def kept() -> Kept:
    slots = Kept(2)
    slots.mean[:] = 1.5, 2.5
    slots.recent[1] = 1, 2, 3
    slots.count[0] = 7
    return slots


def test_new_slots_hold_the_first_values():
    slots = Kept(1)
    assert np.isnan(slots.mean[0])
    assert slots.recent.tolist() == [[0, 0, 0]]
    assert slots.count.tolist() == [-1]


def test_growing_keeps_what_was_there_and_never_shrinks():
    slots = kept()
    for count in (3, 10, 4):
        slots.grow(count)
    assert len(slots) == len(slots.mean) == 10
    assert slots.mean[:2].tolist() == [1.5, 2.5]
    assert slots.recent[1].tolist() == [1, 2, 3]
    assert slots.row(9) == Kept(1).row(0)


def test_a_dropped_slot_is_as_new_also_where_it_was_used_before():
    slots = kept()
    slots.drop(np.array([1]))
    assert slots.row(1) == Kept(1).row(0)
    assert slots.row(0) == kept().row(0)


def stored(slots: Kept) -> Kept:
    return Kept.from_state(slots.state())


def pickled(slots: Kept) -> Kept:
    return pickle.loads(pickle.dumps(slots))  # noqa: S301  # ours


@pytest.mark.parametrize("again", [stored, pickled])
def test_what_comes_back_is_equal_and_can_go_on(again):
    slots = again(kept())
    assert slots.state() == kept().state()
    slots.grow(5)
    slots.mean[4] = 9.0
    slots.grow(6)
    assert slots.row(0) == kept().row(0)
    assert slots.mean[4] == 9.0


def test_a_row_can_be_put_into_another_bank():
    slots = Kept(4)
    slots.put(3, kept().row(1))
    assert slots.row(3) == kept().row(1)
    assert len(kept().row(1)) == Kept.bytes_per_series() == 28


def test_what_is_not_of_the_class_is_refused():
    with pytest.raises(ValueError, match="not the columns of Other"):
        Other.from_state(kept().state())
    with pytest.raises(ValueError, match="28 are expected"):
        Kept(1).put(0, b"short")
