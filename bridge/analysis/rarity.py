"""Rarity: in how many of a tenant's incidents something was named, so that what all share says nothing.

Theory: inverse document frequency with the incident as the document. A storm of a thousand alerts counts once, so
it does not make its own host common; a label that stands in every second incident (an external label, the one
namespace everything runs in) loses its say, whatever its name is. Source: Spärck Jones, A statistical
interpretation of term specificity and its application in retrieval, 1972.

Decision: one row of counters addressed by a hash (a count-min sketch of depth one) instead of a table of tokens.
Memory is 8 KiB per tenant however many pods come and go, there is nothing to evict, and a replay gives the same
bytes. Collisions make a token seem a little more common: with ten thousand tokens of a thousand incidents by about
2 in 1000.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from zlib import crc32

CELLS = 4096
#: Everything is halved when that many incidents were counted: the memory reaches back a few hundred incidents.
HALVE_AT = 1024
#: Incidents that are assumed to have been counted before, without anything in particular: nothing is called
#: common on the word of the first few.
PRIOR_INCIDENTS = 20
#: What stands in this share of incidents, or fewer, is as rare as anything.
RARE_SHARE = 0.05
_RAREST = math.log(RARE_SHARE)


class Rarity:
    """Counters of one tenant."""

    __slots__ = ("_cells", "_incidents")

    def __init__(self, stored: bytes = b"") -> None:
        """Begin empty, or with what `stored` returned."""
        self._cells = array("H", bytes(2 * CELLS))
        self._incidents = 0
        if stored:
            self._cells = array("H")
            self._cells.frombytes(stored[4:])
            self._incidents = int.from_bytes(stored[:4], "little")

    def stored(self) -> bytes:
        """Return all of it as bytes, the same for equal histories."""
        return self._incidents.to_bytes(4, "little") + self._cells.tobytes()

    def count_incident(self) -> None:
        """Count one more incident."""
        self._incidents += 1
        if self._incidents >= HALVE_AT:
            self._incidents //= 2
            self._cells = array("H", [count // 2 for count in self._cells])

    def count(self, keys: Iterable[str]) -> None:
        """Count that an incident names each of `keys` for the first time."""
        for key in keys:
            cell = _cell_of(key)
            if self._cells[cell] < HALVE_AT:
                self._cells[cell] += 1

    def of(self, key: str) -> float:
        """Return how rare `key` is, 0 (in nearly every incident) to 1 (in hardly any)."""
        count = self._cells[_cell_of(key)]
        if count == 0:
            return 1.0
        share = count / (self._incidents + PRIOR_INCIDENTS)
        if share <= RARE_SHARE:
            return 1.0
        return math.log(share) / _RAREST if share < 1.0 else 0.0


def _cell_of(key: str) -> int:
    return crc32(key.encode()) % CELLS
