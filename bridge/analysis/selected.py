"""The selected detector: for each series the champion speaks, and all candidates learn along.

Theory and rules of the choice are in `analysis.selection`, of the trials in `analysis.trials`. A review is what the
clock does with them: from a snapshot of a series' newest history it makes a standing and fits, in the models' process,
as a pure function; `take` puts them in force. Between reviews nobody's rank changes.

Rules: what is told of a value is the champion's score alone, checked where its law is assumed (`detectors.checked`).
All candidates see all values, each learns with its own scores, so a new champion is warm from its first word on. Until
the first review the first candidate speaks.

Cost: some 20 us a value in a bank of a thousand, 20 more where forest and autoencoder are fitted; 93 KiB a series, half
of it history. So this is for the busiest series; the many others have one small detector (`detectors.counts`).

Decision: candidates learn along instead of being warmed up when they win. It costs memory where it is affordable, and
takes a replay of four thousand values out of the path of alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from typing_extensions import override

from bridge.analysis.characteristics import Characteristics, characteristics
from bridge.analysis.detectors import Bank, Column
from bridge.analysis.detectors.autoencoder import Autoencoder
from bridge.analysis.detectors.bank import Floats
from bridge.analysis.detectors.checked import Checked
from bridge.analysis.detectors.counts import CountsBank
from bridge.analysis.detectors.fitted import FitAsk, FittedBank, ask_of
from bridge.analysis.detectors.forest import Forest
from bridge.analysis.detectors.slots import Ints, Slots
from bridge.analysis.detectors.surprise import is_flagged
from bridge.analysis.selection import Standing, begun, heard, judged, refreshed
from bridge.analysis.trials import CANDIDATES, MOST_POINTS, trials
from bridge.model import Word

HISTORY = MOST_POINTS
#: Why the first candidate speaks for a series that was not reviewed yet.
FIRST_WORD = "not reviewed yet"
_LATEST_S = float(2**32 - 1)
NAMES = tuple(candidate.NAME for candidate in CANDIDATES)
#: Whose promises are checked; see `detectors.checked`.
CHECKED = (CountsBank.NAME, Forest.NAME, Autoencoder.NAME)
FITTED = tuple(candidate for candidate in CANDIDATES if issubclass(candidate, FittedBank))


class ReviewAsk(Word, frozen=True, kw_only=True):
    """All that one review may know of one series."""

    snapshot: FitAsk
    standing: Standing | None = None  # None: it was never reviewed


class Review(Word, frozen=True, kw_only=True):
    """What a review says of one series."""

    series: str
    tick: int
    standing: Standing
    characteristics: Characteristics
    fits: dict[str, bytes]  # model -> what it learned


def reviewed(asks: Sequence[ReviewAsk], *, with_trials: bool = True) -> list[Review]:
    """Return a review for each ask, in their order. Seconds each; runs in the models' process.

    Only what speaks, or may speak soon, is fitted: the champion and the challenger.
    """
    tried = trials([ask.snapshot for ask in asks]) if with_trials else [None] * len(asks)
    found = []
    for ask, trial in zip(asks, tried, strict=True):
        times_s, values, _ = ask.snapshot.read()
        series, tick = characteristics(times_s, values), ask.snapshot.tick
        standing = begun(series, tick) if ask.standing is None else refreshed(ask.standing, series, tick)
        if trial is not None:
            standing = judged(standing, trial)
        fits = {}
        for model in FITTED:
            fit = model.fit(ask.snapshot) if model.NAME in {standing.model, standing.challenger} else None
            if fit is not None:
                fits[model.NAME] = fit
        found.append(
            Review(
                series=ask.snapshot.series, tick=tick, standing=standing, characteristics=series, fits=fits
            )
        )
    return found


class _Held(Word, frozen=True, kw_only=True):
    """A bank as bytes."""

    parts: list[bytes]
    standings: list[Standing | None]


class _Past(Slots):
    """Who speaks for each series, and its newest values."""

    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("champion", "|u1"),  # its place among the candidates
        Column("lived", "<i8"),  # usable values so far; the newest is at (lived - 1) % HISTORY
        Column("past_s", "<u4", (HISTORY,)),
        Column("past", "<f8", (HISTORY,)),
        Column("marks", "|u1", (HISTORY,)),  # 1 = the champion flagged it
    )

    champion: NDArray[np.uint8]
    lived: Ints
    past_s: NDArray[np.uint32]
    past: Floats
    marks: NDArray[np.uint8]

    def learn(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        """Write values behind the others."""
        there = np.isfinite(values)
        series, place = series[there], self.lived[series[there]] % HISTORY
        known_s = np.where(np.isfinite(times_s[there]), times_s[there], 0.0)
        self.past_s[series, place] = np.clip(known_s, 0.0, _LATEST_S).astype(np.uint32)
        self.past[series, place] = values[there]
        self.marks[series, place] = is_flagged(scores[there])
        self.lived[series] += 1


class Selected(Bank):
    """All candidates for many series, of which the champion of each series speaks."""

    NAME = "selection"

    def __init__(self, count: int = 0) -> None:
        self.past = _Past()
        self.members: tuple[Bank, ...] = tuple(candidate() for candidate in CANDIDATES)
        self.checks: dict[str, Checked] = {name: Checked() for name in CHECKED}
        self.standings: list[Standing | None] = []
        super().__init__(count)

    def _parts(self) -> list[Slots]:
        return [self.past, *self.members, *self.checks.values()]

    # -- what every bank does

    @override
    def score_many(self, series: Ints, times_s: Floats, values: Floats) -> Floats:
        scores = np.full(len(series), np.nan)
        champion = self.past.champion[series]
        for number, member in enumerate(self.members):
            mine = champion == number
            if mine.any():
                raw = member.score_many(series[mine], times_s[mine], values[mine])
                checked = self.checks.get(member.NAME)
                scores[mine] = raw if checked is None else checked.score_many(series[mine], raw)
        return scores

    @override
    def learn_many(self, series: Ints, times_s: Floats, values: Floats, scores: Floats) -> None:
        for member in self.members:
            own = member.score_many(series, times_s, values)
            member.learn_many(series, times_s, values, own)
            if member.NAME in self.checks:
                self.checks[member.NAME].learn_many(series, own)
        self.past.learn(series, times_s, values, scores)

    @override
    @classmethod
    def bytes_per_series(cls) -> int:
        parts: list[type[Slots]] = [_Past, *CANDIDATES, *[Checked] * len(CHECKED)]
        return sum(part.bytes_per_series() for part in parts)

    @override
    def grow(self, count: int) -> None:
        super().grow(count)
        for part in self._parts():
            part.grow(count)
        self.standings += [None] * (count - len(self.standings))

    @override
    def drop(self, series: Ints) -> None:
        super().drop(series)
        for part in self._parts():
            part.drop(series)
        for number in series.tolist():
            self.standings[number] = None

    @override
    def row(self, series: int) -> bytes:
        return msgspec.msgpack.encode(
            _Held(
                parts=[part.row(series) for part in self._parts()],
                standings=[self.standings[series]],
            )
        )  # fmt: skip

    @override
    def put(self, series: int, row: bytes) -> None:
        held = msgspec.msgpack.decode(row, type=_Held)
        for part, own in zip(self._parts(), held.parts, strict=True):
            part.put(series, own)
        self.standings[series] = held.standings[0]

    @override
    def state(self) -> bytes:
        return msgspec.msgpack.encode(
            _Held(
                parts=[part.state() for part in self._parts()],
                standings=self.standings,
            )
        )  # fmt: skip

    @classmethod
    @override
    def from_state(cls, state: bytes) -> Self:
        held = msgspec.msgpack.decode(state, type=_Held)
        bank = cls(len(held.standings))
        past, *members = held.parts[: len(CANDIDATES) + 1]
        bank.past = _Past.from_state(past)
        bank.members = tuple(
            candidate.from_state(own) for candidate, own in zip(CANDIDATES, members, strict=True)
        )
        checks = held.parts[len(CANDIDATES) + 1 :]
        bank.checks = {name: Checked.from_state(own) for name, own in zip(CHECKED, checks, strict=True)}
        bank.standings = held.standings
        return bank

    # -- the choice

    def model(self, series: int) -> str:
        """Return the name of the detector that speaks for a series."""
        return NAMES[int(self.past.champion[series])]

    def history(self, series: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Return times, values and what was flagged of a series' newest past, oldest first."""
        lived = int(self.past.lived[series])
        places = np.arange(max(0, lived - HISTORY), lived) % HISTORY
        marks = self.past.marks[series, places].astype(np.bool_)
        return self.past.past_s[series, places].astype(np.float64), self.past.past[series, places], marks

    def ask(self, series: int, *, tenant: str, name: str, tick: int) -> ReviewAsk:
        """Return what a review of a series must know now."""
        times_s, values, marks = self.history(series)
        return ReviewAsk(
            snapshot=ask_of(tenant, name, tick, (times_s, values), marks), standing=self.standings[series]
        )

    def take(self, series: int, review: Review) -> None:
        """Put a review in force. What people said since it was asked for stays."""
        now, standing = self.standings[series], review.standing
        if now is not None and now.model == standing.model:
            standing = replace(standing, useful=now.useful, false_alarms=now.false_alarms)
        self.standings[series] = standing
        self.past.champion[series] = NAMES.index(review.standing.model)
        for member in self.members:
            if isinstance(member, FittedBank) and member.NAME in review.fits:
                member.take(series, review.fits[member.NAME])

    def hear(self, series: int, *, useful: bool) -> None:
        """Count what a person said of an alarm of this series."""
        standing = self.standings[series] or Standing(
            model=self.model(series), reason=FIRST_WORD, since_tick=0
        )
        self.standings[series] = heard(standing, useful=useful)
