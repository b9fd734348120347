"""What scikit-learn grew is added up here to the same sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from bridge.analysis.trees import Ensemble, Grown, stored

COLUMNS = 5


def grown(seed: int, depth: int, trees: int) -> tuple[HistGradientBoostingClassifier, np.random.Generator]:
    dice = np.random.default_rng(seed)
    rows = drawn(dice, 400)
    target = rows[:, 0] * rows[:, 3] + rows[:, 4] > dice.normal(size=len(rows))
    model = HistGradientBoostingClassifier(
        max_iter=trees, max_depth=depth, max_leaf_nodes=31, early_stopping=False, random_state=0
    )
    return model.fit(rows, target), dice


def drawn(dice: np.random.Generator, number: int) -> np.ndarray:
    rows = dice.normal(size=(number, COLUMNS)).astype(np.float32)
    rows[:, :3] = np.round(rows[:, :3])  # ties with thresholds
    return rows


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 12))
def test_the_sums_are_those_of_scikit_learn(seed: int, depth: int, trees: int) -> None:
    model, dice = grown(seed, depth, trees)
    rows = drawn(dice, 200)
    ours = Ensemble(stored(model), COLUMNS).sums(rows)
    assert ours == pytest.approx(model.decision_function(rows), abs=1e-5)


def test_a_value_that_equals_a_threshold_goes_left() -> None:
    model, dice = grown(3, 4, 8)
    found = stored(model)
    rows = drawn(dice, 400)
    feature, threshold = np.frombuffer(found.feature, np.uint8), np.frombuffer(found.threshold, "<f4")
    for number, (column, edge) in enumerate(zip(feature, threshold, strict=True)):
        rows[number % len(rows), column] = edge
    assert Ensemble(found, COLUMNS).sums(rows) == pytest.approx(model.decision_function(rows), abs=1e-5)


def test_how_many_rows_are_asked_at_once_changes_nothing() -> None:
    model, dice = grown(5, 5, 20)
    ensemble, rows = Ensemble(stored(model), COLUMNS), drawn(dice, 300)
    whole = ensemble.sums(rows)
    assert np.array_equal(np.concatenate([ensemble.sums(rows[n : n + 1]) for n in range(300)]), whole)


def test_no_trees_are_the_base() -> None:
    empty = Grown(trees=0, base=0.25, tree=b"", feature=b"", threshold=b"", remain=b"", leaves=b"")
    assert Ensemble(empty, COLUMNS).sums(np.zeros((3, COLUMNS), np.float32)).tolist() == [0.25] * 3


def test_a_tree_with_too_many_leaves_is_refused() -> None:
    dice = np.random.default_rng(0)
    rows = drawn(dice, 3000)
    model = HistGradientBoostingClassifier(max_iter=1, max_leaf_nodes=64, max_depth=9, min_samples_leaf=5)
    model.fit(rows, dice.normal(size=3000) > rows[:, 4])
    with pytest.raises(ValueError, match="leaves"):
        stored(model)
