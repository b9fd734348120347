"""Banks: where the detectors keep what they know of one tenant's series, by the series' names.

Rules: which slot of a bank a series has is nobody's business and not stored; what is stored is the row of the series.
A row that its detector does not understand, because it is of another release, is dropped: the series learns anew.

Decision: a row is stored once for `WHOLE_EVERY` samples, and between that the samples themselves, which are learned
again after a restart. A row is kilobytes, a sample is sixteen bytes, and what is learned of a series depends on nothing
but its samples, so that both ways lead to the same bytes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence

import numpy as np

from bridge.analysis.detectors import Bank
from bridge.analysis.detectors.believed import Believed
from bridge.analysis.reviewing import DETECTORS
from bridge.pipeline.histories import Sample

#: What is known of a series is stored as a whole once for so many samples.
WHOLE_EVERY = 32


class Banks:
    """One tenant's detectors."""

    def __init__(self) -> None:
        self._banks: dict[str, Bank] = {}
        self._places: dict[str, tuple[str, int]] = {}  # series -> model and slot
        self._free: dict[str, list[int]] = {}

    def place(self, name: str, model: str) -> tuple[Bank, int]:
        """Return the bank and the slot of a series, a new one if it had none or another model."""
        known = self._places.get(name)
        if known is not None and known[0] != model:
            self.drop(name)
            known = None
        bank = self._banks.get(model)
        if bank is None:
            bank = self._banks[model] = DETECTORS[model]()
        if known is None:
            free = self._free.setdefault(model, [])
            slot = free.pop() if free else len(bank)
            bank.grow(slot + 1)
            known = self._places[name] = (model, slot)
        return bank, known[1]

    def drop(self, name: str) -> None:
        """Forget a series; does nothing for one that has no slot."""
        known = self._places.pop(name, None)
        if known is not None:
            model, slot = known
            bank = self._banks[model]
            bank.put(slot, DETECTORS[model](1).row(0))
            self._free.setdefault(model, []).append(slot)

    def take(self, name: str, model: str, fit: bytes) -> None:
        """Put a fit in force for a series; one of another release changes nothing."""
        bank, slot = self.place(name, model)
        if isinstance(bank, Believed):
            with contextlib.suppress(ValueError):
                bank.take(slot, fit)

    def row(self, name: str, model: str) -> bytes:
        """Return all that its detector knows of a series."""
        bank, slot = self.place(name, model)
        return bank.row(slot)

    def learn(
        self, series: Sequence[tuple[str, str]], times_s: Sequence[float], values: Sequence[float]
    ) -> list[float | None]:
        """Ask about one value of each series (name and model), learn from it, and return the scores.

        None where a detector warms up. Each series stands at most once.
        """
        scores: list[float | None] = [None] * len(series)
        by_model: dict[str, list[int]] = {}
        for number, (_, model) in enumerate(series):
            by_model.setdefault(model, []).append(number)
        for model, numbers in by_model.items():
            places = [self.place(series[number][0], model) for number in numbers]
            bank, slots = places[0][0], np.array([slot for _, slot in places])
            when, what = np.array(times_s)[numbers], np.array(values)[numbers]
            if isinstance(bank, Believed):
                found = bank.taken_in(slots, when, what)
            else:
                found = bank.score_many(slots, when, what)
                bank.learn_many(slots, when, what, found)
            for number, score in zip(numbers, found.tolist(), strict=True):
                scores[number] = None if math.isnan(score) else score
        return scores

    def learn_again(self, series: Iterable[tuple[str, str, Sequence[Sample]]]) -> None:
        """Learn from the samples that came after the rows of these series (name, model, samples)."""
        left = [each for each in series if each[2]]
        number = 0
        while left:
            self.learn(
                [(name, model) for name, model, _ in left],
                [samples[number][0] for _, _, samples in left],
                [samples[number][1] for _, _, samples in left],
            )
            number += 1
            left = [each for each in left if len(each[2]) > number]

    def put(self, name: str, model: str, row: bytes) -> None:
        """Take over what `row` returned."""
        bank, slot = self.place(name, model)
        try:
            bank.put(slot, row)
        except ValueError:
            self.drop(name)
            self.place(name, model)
