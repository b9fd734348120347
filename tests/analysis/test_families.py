"""Families: the same templates make the same families, whose ids outlive refits."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bridge.analysis.families import (
    MIN_TEMPLATES,
    PCA_ABOVE,
    PCA_DIMENSIONS,
    FitAsk,
    fit,
    named,
    own_family,
    predict,
)

Rows = list[tuple[str, bytes, str]]


def rows(kinds: int, each: int, *, loners: int = 0, seed: int = 1, first: int = 0) -> Rows:
    """Return `each` templates around each of `kinds` centres, and some that are like no other."""
    centres = np.random.default_rng(99).normal(size=(kinds, 384))
    dice = np.random.default_rng(seed)
    near = [centre + 0.25 * dice.normal(size=384) for centre in centres for _ in range(each)]
    vectors = near + [dice.normal(size=384) for _ in range(loners)]
    ids = [f"{(first + number) * 2654435761 % 2**32:08x}" for number in range(len(vectors))]
    return [(key, unit(vector), "") for key, vector in zip(ids, vectors, strict=True)]


def unit(vector: np.ndarray) -> bytes:
    return bytes((vector / np.linalg.norm(vector)).astype("<f2").tobytes())


def ask(templates: Sequence[tuple[str, bytes, str]], number: int = 1) -> FitAsk:
    return FitAsk(tenant="default", fit=number, templates=tuple(templates))


TWENTY = rows(20, 12, loners=30)


def test_templates_that_say_the_same_become_one_family_and_loners_stay_alone() -> None:
    assign = fit(ask(TWENTY)).assign
    for start in range(0, 240, 12):
        assert len({assign[key] for key, _, _ in TWENTY[start : start + 12]}) == 1
    assert len({assign[key] for key, _, _ in TWENTY[:240]}) == 20
    alone = [key for key, _, _ in TWENTY[240:] if assign[key] == own_family(key)]
    assert len(alone) >= 25  # of 30: a loner may happen to lie near something


def test_the_order_of_the_input_does_not_matter() -> None:
    mixed = random.Random(5).sample(TWENTY, len(TWENTY))
    one, other = fit(ask(TWENTY)), fit(ask(mixed))
    assert one.assign == other.assign
    fresh = [(key, vector) for key, vector, _ in rows(20, 1, loners=3, seed=7, first=5000)]
    assert predict(one.fitted, fresh) == predict(other.fitted, fresh[::-1])


def test_prediction_puts_a_new_template_into_its_family_or_leaves_it_alone() -> None:
    found = fit(ask(TWENTY))
    fresh = rows(20, 1, loners=3, seed=7, first=5000)
    predicted = predict(found.fitted, [(key, vector) for key, vector, _ in fresh])
    assert [predicted[key] for key, _, _ in fresh[:20]] == [
        found.assign[key] for key, _, _ in TWENTY[:240:12]
    ]
    assert [predicted[key] for key, _, _ in fresh[20:]] == [own_family(key) for key, _, _ in fresh[20:]]


def test_five_percent_more_templates_change_no_familys_id() -> None:
    before = fit(ask(TWENTY)).assign
    more = rows(20, 1, seed=8, first=9000)[:14]
    again = fit(ask([(key, vector, before.get(key, "")) for key, vector, _ in TWENTY + more], 2)).assign
    joined = {key: family for key, family in before.items() if family.startswith("f:")}
    assert len(joined) >= 240
    assert {key: again[key] for key in joined} == joined
    assert all(again[key] in set(before.values()) for key, _, _ in more)


def test_few_templates_make_no_families() -> None:
    few = TWENTY[: MIN_TEMPLATES - 1]
    found = fit(ask(few))
    assert found.assign == {key: own_family(key) for key, _, _ in few}
    assert predict(found.fitted, [("new", few[0][1])]) == {"new": "t:new"}


def test_templates_that_are_all_alike_make_no_family_rather_than_an_error() -> None:
    same = [(f"{number:08x}", TWENTY[0][1], "") for number in range(MIN_TEMPLATES)]
    found = fit(ask(same))
    assert set(found.assign) == {key for key, _, _ in same}
    assert set(predict(found.fitted, [("new", TWENTY[0][1])])) == {"new"}


def test_many_templates_are_fitted_on_principal_components() -> None:
    many = rows(100, (PCA_ABOVE + 100) // 100)
    found = fit(ask(many))
    assert found.fitted._components.n_components_ == PCA_DIMENSIONS
    assert len({family for family in found.assign.values() if family.startswith("f:")}) == 100
    fresh = rows(100, 1, seed=7, first=50_000)[:10]
    predicted = predict(found.fitted, [(key, vector) for key, vector, _ in fresh])
    assert [predicted[key] for key, _, _ in fresh] == [found.assign[key] for key, _, _ in many[:210:21]]


# ---- ids -------------------------------------------------------------------------------------------------


def test_a_new_cluster_gets_a_number_of_its_fit() -> None:
    assert named({0: ["b", "c"], 1: ["a", "d"]}, {}, 7) == {1: "f:7.1", 0: "f:7.2"}


def test_a_cluster_that_holds_most_of_a_family_keeps_its_id() -> None:
    before = dict.fromkeys("abc", "f:1.1")
    assert named({0: ["a", "b", "x", "y", "z"]}, before, 2) == {0: "f:1.1"}


def test_a_cluster_that_comes_mostly_from_one_family_keeps_its_id() -> None:
    before = dict.fromkeys("abcdefgh", "f:1.1")
    assert named({0: ["a", "b", "x"]}, before, 2) == {0: "f:1.1"}


def test_without_a_majority_on_either_side_the_id_is_new() -> None:
    before = dict.fromkeys("abcd", "f:1.1") | dict.fromkeys("efgh", "f:1.2")
    assert named({0: ["a", "b", "e", "f"]}, before, 2) == {0: "f:2.1"}


def test_of_a_split_family_the_larger_part_keeps_the_id() -> None:
    before = dict.fromkeys("abcdefg", "f:1.1")
    assert named({0: ["a", "b", "c"], 1: ["d", "e", "f", "g"]}, before, 2) == {0: "f:2.1", 1: "f:1.1"}


def test_of_merged_families_the_one_with_more_templates_lives_on() -> None:
    before = dict.fromkeys("ab", "f:1.1") | dict.fromkeys("cde", "f:1.2")
    assert named({0: list("abcde")}, before, 2) == {0: "f:1.2"}


@given(
    clusters=st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 3), min_size=1),
    before=st.dictionaries(st.sampled_from("abcdefghij"), st.sampled_from(["f:1.1", "f:1.2", "f:2.1"])),
    shift=st.integers(1, 9),
)
def test_ids_are_distinct_and_depend_on_content_alone(
    clusters: dict[str, int], before: dict[str, str], shift: int
) -> None:
    """HDBSCAN may number its clusters as it likes: shifted labels give the same names to the same content."""
    members: dict[int, list[str]] = {}
    for key, label in clusters.items():
        members.setdefault(label, []).append(key)
    shifted = {(label + shift) % 10: keys[::-1] for label, keys in reversed(members.items())}
    names, other = named(members, before, 3), named(shifted, before, 3)
    assert len(set(names.values())) == len(members)
    assert other == {(label + shift) % 10: name for label, name in names.items()}
    again = {key: names[label] for label, keys in members.items() for key in keys}
    assert named(members, again, 4) == names
    assert Counter(name.startswith("f:3.") for name in names.values())[True] >= len(members) - len(
        set(before.values())
    )


def test_the_words_cost_no_library() -> None:
    """The front and the analyst import these words; numpy, sklearn and hdbscan are the child's business."""
    code = "import sys, bridge.analysis.families, bridge.encoder; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"numpy", "sklearn", "hdbscan", "torch", "sentence_transformers"} & set(modules)
