"""What was told and what came of it, in columns: 25 bytes an origin, in memory as on disk.

Rules: ascending by origin; the oldest go when there are more than are kept. Numbers are stored as they are computed
with, so that a fit after a restart learns exactly the same.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.forecast.occurrences import Floats
from bridge.model import Word

HAPPENED, ACTED, BY_MODELS = 1, 2, 4


class KeptState(Word, frozen=True, kw_only=True):
    """Columns as they are stored: float64, little-endian, and one byte of flags each."""

    origins: bytes = b""
    references: bytes = b""
    mixed: bytes = b""
    flags: bytes = b""


class Columns(NamedTuple):
    """What a fit learns from; what people acted on is left out."""

    origins: Floats
    references: Floats
    mixed: Floats
    happened: NDArray[np.bool_]
    by_models: NDArray[np.bool_]


class Kept:
    """The newest origins whose outcome is known."""

    def __init__(self, most: int, state: KeptState | None = None) -> None:
        """Begin empty, or with what was stored; at most `most` are kept.

        Raises:
            ValueError: The stored columns are of different lengths.
        """
        stored = state or KeptState()
        self._most = most
        self._origins, self._references, self._mixed = (
            array("d", np.frombuffer(each, "<f8").tobytes())
            for each in (stored.origins, stored.references, stored.mixed)
        )
        self._flags = bytearray(stored.flags)
        if not len(self._origins) == len(self._references) == len(self._mixed) == len(self._flags):
            raise ValueError("what was told has columns of different lengths")

    def __len__(self) -> int:
        return len(self._flags)

    def add(self, origin_s: float, reference: float, mixed: float, flags: int) -> None:
        """Keep one more, newer than all others."""
        for column, value in (
            (self._origins, origin_s),
            (self._references, reference),
            (self._mixed, mixed),
        ):
            column.append(value)
            del column[: -self._most]
        self._flags.append(flags)
        del self._flags[: -self._most]

    def act(self, since_s: float, until_s: float) -> None:
        """Mark those between two times, both left out, as acted on."""
        for number, origin_s in enumerate(self._origins):
            if since_s < origin_s < until_s:
                self._flags[number] |= ACTED

    def state(self, most: int | None = None) -> KeptState:
        """Return all, or the newest `most`, to be stored."""
        since = 0 if most is None else max(0, len(self) - most)
        return KeptState(
            origins=_bytes(self._origins[since:]), references=_bytes(self._references[since:]),
            mixed=_bytes(self._mixed[since:]), flags=bytes(self._flags[since:]),
        )  # fmt: skip


def columns_of(state: KeptState) -> Columns:
    """Return what a fit learns from."""
    flags = np.frombuffer(state.flags, np.uint8)
    used = (flags & ACTED) == 0
    origins, references, mixed = (
        np.frombuffer(each, "<f8").astype(np.float64)[used]
        for each in (state.origins, state.references, state.mixed)
    )
    flags = flags[used]
    return Columns(origins, references, mixed, (flags & HAPPENED) > 0, (flags & BY_MODELS) > 0)


def _bytes(values: array[float]) -> bytes:
    return np.array(values, "<f8").tobytes()
