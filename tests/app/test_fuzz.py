"""Bodies that no Alertmanager sends, over real connections: the short form of `benchmarks/fuzz.py`."""

from __future__ import annotations

import json

import pytest

from benchmarks.fuzz import MIB, Found, run
from benchmarks.parts.mutations import Shot, shots

SHOT = Shot("/v1/alertmanager", "application/json", b"{}")


@pytest.mark.timeout(180)
def test_the_sidecar_answers_whatever_comes_and_stands():
    found = run(2_000, seed=7)
    assert found.good, found
    assert found.answers.total() == 2_000
    assert found.answers[200] > 300
    assert found.answers[400] > 300
    assert set(found.answers) <= {200, 400, 413, 415, 503}
    assert found.stored["backlog"] == 0


@pytest.mark.parametrize(
    "found",
    [
        Found(unanswered=[SHOT]),
        Found(wrong=[(500, SHOT)]),
        Found(is_same=False),
        Found(bugs={"batch_failed": 1}),  # type: ignore[arg-type]
        Found(most_bytes={"front": [100 * MIB, 170 * MIB]}),
    ],
)
def test_each_thing_that_goes_wrong_is_seen(found: Found):
    assert Found().good
    assert not found.good


def test_the_same_seed_sends_the_same_and_another_seed_something_else():
    first, again, other = shots(1), shots(1), shots(2)
    sent = [first() for _ in range(200)]
    assert sent == [again() for _ in range(200)]
    assert sent != [other() for _ in range(200)]


def test_some_are_sound_and_some_are_no_json():
    shot = shots(3)
    sound = 0
    for _ in range(500):
        try:
            json.loads(shot().body)
        except (ValueError, RecursionError):
            continue
        sound += 1
    assert 100 < sound < 400
