"""What the log says of an attempt."""

from __future__ import annotations

from collections import Counter

import pytest

from bridge.dispatch.telling import _sentence


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"delivered": 1}, "Delivered 1 event to file."),
        ({"delivered": 20}, "Delivered 20 events to file."),
        ({"retry": 1}, "Tried to send 1 event to file: 1 to be tried again."),
        (
            {"delivered": 2, "blocked": 1},
            "Tried to send 3 events to file: 2 delivered, 1 refused for now and kept.",
        ),
    ],
)
def test_an_attempt_is_told_by_what_came_of_it(results: dict[str, int], said: str) -> None:
    assert _sentence("file", Counter(results)) == said
