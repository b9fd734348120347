"""Histories: the newest samples of series, to tell what they are like and what each detector would have found.

Rules: a history is stored in blocks, under the number of their first sample. The newest samples are open: they are what
the series' detector learned since what it knows was stored as a whole, and are stored there (`Measured.learned`). They
join the newest block when that is stored; the oldest block goes as soon as the others are enough.

Decision: blocks beside the series rather than one history that is written anew: 52 KiB for each series whose detector
is stored. And a block takes in what follows until it is full, rather than one for each time, which would be a hundred
rows for each series. Times are whole seconds here, and values are kept as they came.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bridge.analysis.reviewing import HISTORY

Floats = NDArray[np.float64]
#: When, what, and whether it was too strange to be learned from.
Sample = tuple[float, float, bool]

#: Samples of a full block, about 3 KiB.
BLOCK = 256
_ROW = np.dtype([("at_s", "<u4"), ("value", "<f8"), ("mark", "|u1")])
_LATEST_S = 2.0**32 - 1.0


class History:
    """The past of one series, oldest first."""

    def __init__(self, blocks: Mapping[int, bytes] | None = None, learned: tuple[Sample, ...] = ()) -> None:
        self.blocks: dict[int, bytes] = dict(sorted((blocks or {}).items()))  # by their first sample's number
        self.open: list[Sample] = list(learned)

    def close(self, lived: int) -> dict[int, bytes | None]:
        """Let what is open be a block, or part of one, where the series has had `lived` samples.

        Returns what is to be stored of it: blocks by their numbers, None for those that are too old now.
        """
        first, samples = lived - len(self.open), self.open[-HISTORY:]
        first, self.open = lived - len(samples), []
        changed: dict[int, bytes | None] = {}
        newest = next(reversed(self.blocks), None)
        if newest is not None and newest + _length(self.blocks[newest]) == first:
            room = BLOCK - _length(self.blocks[newest])
            if room > 0 and samples:
                self.blocks[newest] += _packed(samples[:room])
                changed[newest] = self.blocks[newest]
                first, samples = first + len(samples[:room]), samples[room:]
        for start in range(0, len(samples), BLOCK):
            self.blocks[first + start] = changed[first + start] = _packed(samples[start : start + BLOCK])
        for oldest in list(self.blocks):
            if lived - oldest - _length(self.blocks[oldest]) < HISTORY:
                break
            del self.blocks[oldest]
            changed[oldest] = None
        return changed

    def read(self) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Return times (epoch s), values and what was too strange of the newest `HISTORY` samples."""
        rows = np.frombuffer(b"".join([*self.blocks.values(), _packed(self.open)]), _ROW)[-HISTORY:]
        return rows["at_s"].astype(np.float64), rows["value"].copy(), rows["mark"].astype(np.bool_)

    def stored(self) -> bytes:
        """Return all of it as bytes, equal for equal pasts."""
        return repr((sorted(self.blocks.items()), self.open)).encode()


def _length(block: bytes) -> int:
    return len(block) // _ROW.itemsize


def _packed(samples: list[Sample]) -> bytes:
    rows = np.zeros(len(samples), _ROW)
    if samples:
        at_s, values, marks = zip(*samples, strict=True)
        rows["at_s"], rows["value"], rows["mark"] = np.clip(at_s, 0.0, _LATEST_S).astype("<u4"), values, marks
    return rows.tobytes()
