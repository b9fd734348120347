"""Answers: what was once found out about pairs of things, for thousands of pairs at once.

Rules: each different pair is asked about once; what is remembered is bounded by what is asked about.

Decision: a square of bytes as long as the things are few, since looking a pair up in it costs some nanoseconds; sorting
out which pairs are different cost as much as everything else that was compared. Of more things, of which most pairs
never come, the answers are kept by pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sized

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

MAX_SQUARE = 1024  # things of which a square is kept: a megabyte
_UNASKED = -1


class Answers:
    """What was answered about pairs of things that are numbered from 0."""

    def __init__(self, ask: Callable[[int, int], int], things: Sized) -> None:
        """Begin with nothing known.

        Args:
            ask: Answers about two numbers: 0..127, always the same.
            things: How many there are; they may become more.
        """
        self._ask = ask
        self._things = things
        self._square = np.full((0, 0), _UNASKED, np.int8)
        self._known: dict[int, int] = {}

    def __len__(self) -> int:
        """How many answers are remembered outside the square, which is bounded."""
        return len(self._known)

    def of(self, left: Ints, right: Ints) -> Ints:
        """Return the answer for each pair; one of the two may be a single number."""
        if len(self._things) > MAX_SQUARE:
            return self._by_pair(*np.broadcast_arrays(left, right))
        if len(self._things) > len(self._square):
            self._widen()
        found = self._square[left, right]
        if found.min(initial=0) < 0:
            unasked = found < 0
            codes = np.unique(np.broadcast_to((left << 32) + right, found.shape)[unasked])
            for code in codes.tolist():
                one, other = code >> 32, code & 0xFFFFFFFF
                self._square[one, other] = self._ask(one, other)
            found = self._square[left, right]
        return found.astype(np.int64)

    def _widen(self) -> None:
        size, before = min(MAX_SQUARE, 2 * len(self._things)), len(self._square)
        wider = np.full((size, size), _UNASKED, np.int8)
        wider[:before, :before] = self._square
        self._square = wider

    def _by_pair(self, left: Ints, right: Ints) -> Ints:
        codes = (left << 32) + right
        different, places = np.unique(codes, return_inverse=True)
        found = np.empty(len(different), np.int64)
        for number, code in enumerate(different.tolist()):
            value = self._known.get(code)
            if value is None:
                value = self._known[code] = self._ask(code >> 32, code & 0xFFFFFFFF)
            found[number] = value
        return found[places]
