"""What happened, as columns: the beginnings, ends and words of events, in one order whatever order they came in.

Rules: what is asked about an origin looks at no beginning and no end after it. An end that has not passed and an end
that nobody told are the same thing: unknown. Rows that are equal are different events all the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from bridge.model import Word

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: How many columns the words of each kind are hashed into.
ENTITY_BUCKETS, SEVERITY_BUCKETS, TEXT_BUCKETS = 12, 6, 12
_MASKED = re.compile(r"0x[0-9a-f]+|\d+|[^\W\d_]{1,2}\b")
_WORD = re.compile(r"[^\W\d_]{3,}")
_PART = re.compile(r"[^|,;]+")
MAX_WORDS = 12  # of one text


class Occurrence(Word, frozen=True, array_like=True):
    """One event. Times are seconds since the epoch; `end_s` None: it goes on, or nobody told."""

    start_s: float
    end_s: float | None = None
    entity: str = ""  # several: apart by | , or ;
    severity: str = ""
    text: str = ""


class Occurrences:
    """Events by when they began. Building costs about 3 us an event and 5 us for each text not seen before."""

    def __init__(self, events: Iterable[Occurrence]) -> None:
        """Sort them: by everything that they say, so that the order they came in is of no account."""
        self.events: Sequence[Occurrence] = sorted(
            events, key=lambda each: (each.start_s, each.end_s or 0.0, each.entity, each.severity, each.text)
        )
        self.starts = np.array([each.start_s for each in self.events], np.float64)
        ends = [each.end_s for each in self.events if each.end_s is not None and each.end_s >= each.start_s]
        self.ends = np.sort(np.array(ends, np.float64))
        self._ended_of = np.array(
            [
                each.start_s
                for each in sorted(
                    (each for each in self.events if each.end_s is not None and each.end_s >= each.start_s),
                    key=lambda each: (each.end_s, each.start_s),
                )
            ],
            np.float64,
        )
        self._buckets: dict[str, list[Floats]] = {}

    def __len__(self) -> int:
        return len(self.events)

    def of(self, *, entity: str | None = None, severity: str | None = None) -> Occurrences:
        """Return those of one entity, one severity, or both."""
        return Occurrences(
            each
            for each in self.events
            if (entity is None or entity in parts_of(each.entity))
            and (severity is None or severity == each.severity)
        )

    def range(self, since_s: float, until_s: float) -> tuple[int, int]:
        """Return which events began in (since, until]: the first one's number and the one after the last."""
        first, last = np.searchsorted(self.starts, [since_s, until_s], "right").tolist()
        return first, last

    def begun(self, since_s: Floats | float, until_s: Floats) -> Ints:
        """Return how many began in (since, until], for each pair."""
        return counted(self.starts, since_s, until_s)

    def ended(self, since_s: Floats, until_s: Floats) -> Ints:
        """Return how many ended in (since, until], for each pair."""
        return counted(self.ends, since_s, until_s)

    def open_since(self, since_s: Floats, at_s: Floats) -> Ints:
        """Return how many of those that began in (since, at] had not ended at `at`; `at` ascends.

        Exact for those that ended: of a long history only ends after `since` matter, and those are walked once.
        """
        begun = self.begun(since_s, at_s)
        ended = np.zeros(len(at_s), np.int64)
        until = np.searchsorted(self.ends, at_s, "right")
        first = np.searchsorted(self.ends, since_s, "right")
        for row in np.flatnonzero(until > first):
            ended[row] = int((self._ended_of[first[row] : until[row]] > since_s[row]).sum())
        return begun - ended

    def times_of(self, kind: str) -> list[Floats]:
        """Return for each bucket of `entity`, `severity` or `text` when events of it began, ascending."""
        if kind not in self._buckets:
            size, tokens = _KINDS[kind]
            found: list[list[float]] = [[] for _ in range(size)]
            for each in self.events:
                for bucket in sorted({number % size for number in tokens(getattr(each, kind))}):
                    found[bucket].append(each.start_s)
            self._buckets[kind] = [np.array(times, np.float64) for times in found]
        return self._buckets[kind]


def counted(times: Floats, since_s: Floats | float, until_s: Floats) -> Ints:
    """Return how many of the ascending `times` lie in (since, until]."""
    found: Ints = np.searchsorted(times, until_s, "right") - np.searchsorted(times, since_s, "right")
    return found


def parts_of(entity: str) -> tuple[str, ...]:
    """Return the names in an entity field."""
    return tuple(part.strip() for part in _PART.findall(entity) if part.strip())


@lru_cache(maxsize=65_536)
def _entity_tokens(entity: str) -> tuple[int, ...]:
    return tuple(_hashed(part) for part in parts_of(entity))


@lru_cache(maxsize=4096)
def _severity_tokens(severity: str) -> tuple[int, ...]:
    return (_hashed(severity),) if severity else ()


@lru_cache(maxsize=65_536)
def _text_tokens(text: str) -> tuple[int, ...]:
    words = _WORD.findall(_MASKED.sub(" ", text.lower()))
    return tuple(_hashed(word) for word in words[:MAX_WORDS])


def _hashed(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


_KINDS = {
    "entity": (ENTITY_BUCKETS, _entity_tokens),
    "severity": (SEVERITY_BUCKETS, _severity_tokens),
    "text": (TEXT_BUCKETS, _text_tokens),
}
