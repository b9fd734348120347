"""Believed: a detector whose promises are checked as it goes, as one detector.

Theory and rules are those of `detectors.checked`; here is only that what is told is what the score means on its series,
and that the detector itself learns with its own scores, so that what it is believed does not change what it learns.

Cost: the detector's; `learn_many` alone asks for its score once more, `taken_in` does not.
"""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec
from typing_extensions import override

from bridge.analysis.detectors.autoencoder import Autoencoder
from bridge.analysis.detectors.bank import Bank, Floats
from bridge.analysis.detectors.checked import Checked
from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.fitted import FittedBank
from bridge.analysis.detectors.forest import Forest
from bridge.analysis.detectors.slots import Ints


class Believed(Bank):
    """A detector of `KIND` for many series, with how far each series' scores were off so far."""

    KIND: ClassVar[type[Bank]]

    def __init__(self, count: int = 0) -> None:
        self.own = self.KIND()
        self.check = Checked()
        super().__init__(count)

    @override
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        return self.check.score_many(series, self.own.score_many(series, times_s, values))

    @override
    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        raw = self.own.score_many(series, times_s, values)
        self.own.learn_many(series, times_s, values, raw)
        self.check.learn_many(series, raw)

    def taken_in(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        """Return scores as `score_many` does and learn as `learn_many` does, asking the detector once."""
        raw = self.own.score_many(series, times_s, values)
        told = self.check.score_many(series, raw)
        self.own.learn_many(series, times_s, values, raw)
        self.check.learn_many(series, raw)
        return told

    def take(self, series: int, fit: bytes) -> None:
        """Put a fit in force for a series; ValueError where this detector has none, or another one."""
        if not isinstance(self.own, FittedBank):
            raise ValueError(f"{self.NAME} is not fitted")  # noqa: TRY004 - as for a fit of another length
        self.own.take(series, fit)

    @override
    @classmethod
    def bytes_per_series(cls) -> int:
        return cls.KIND.bytes_per_series() + Checked.bytes_per_series()

    @override
    def grow(self, count: int) -> None:
        super().grow(count)
        self.own.grow(count)
        self.check.grow(count)

    @override
    def drop(self, series: Ints) -> None:
        super().drop(series)
        self.own.drop(series)
        self.check.drop(series)

    @override
    def row(self, series: int) -> bytes:
        return self.own.row(series) + self.check.row(series)

    @override
    def put(self, series: int, row: bytes) -> None:
        if len(row) != self.bytes_per_series():
            raise ValueError(f"a row of {len(row)} bytes, {self.bytes_per_series()} are expected")
        self.own.put(series, row[: self.KIND.bytes_per_series()])
        self.check.put(series, row[self.KIND.bytes_per_series() :])

    @override
    def state(self) -> bytes:
        return msgspec.msgpack.encode((self.own.state(), self.check.state()))

    @override
    @classmethod
    def from_state(cls, state: bytes) -> Self:
        own, check = msgspec.msgpack.decode(state, type=tuple[bytes, bytes])
        bank = cls()
        bank.own, bank.check = cls.KIND.from_state(own), Checked.from_state(check)
        bank.grow(len(bank.own))
        return bank


class BelievedCounts(Believed):
    """Counts, as far as they are to be believed."""

    KIND, NAME = CountsBank, CountsBank.NAME


class BelievedForest(Believed):
    """An Isolation Forest, as far as it is to be believed."""

    KIND, NAME = Forest, Forest.NAME


class BelievedAutoencoder(Believed):
    """An autoencoder, as far as it is to be believed."""

    KIND, NAME = Autoencoder, Autoencoder.NAME
