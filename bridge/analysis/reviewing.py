"""Reviewing: what the clock does with the choice of detectors, from snapshots of series' newest histories.

Theory and rules of the choice are in `analysis.selection`, of the trials in `analysis.trials`. A review of a series
makes its standing anew: what it is like now, and what each detector would have found in it. It is a pure function of
its ask and runs in the models' process. What it says acts from the row on that brings it.

Rules: a series has one detector at a time, its champion. A new one comes warm: the review lets it live through the
snapshot, and what came after the snapshot it learns where it takes over (`Review.lived`). A detector that is fitted
gets a new fit with each review.

Decision: one detector in memory and a history, instead of all candidates learning along. Five of them take 41 KiB and
five times the time on the path of alerts, and would be stored again and again; the history (52 KiB) is needed for the
trials anyway, and warming up is a second or so in a process that nobody waits for.

Cost: of the trials, see there; a new champion a second more, a fit up to two.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec
import zstandard

from bridge.analysis.champions import Standing
from bridge.analysis.characteristics import characteristics
from bridge.analysis.detectors import Bank
from bridge.analysis.detectors.bank import Floats
from bridge.analysis.detectors.believed import Believed, BelievedAutoencoder, BelievedCounts, BelievedForest
from bridge.analysis.detectors.fitted import FitAsk, FittedBank
from bridge.analysis.detectors.shape import ShapeBank
from bridge.analysis.detectors.spot import SpotBank
from bridge.analysis.detectors.spot_alone import SpotAlone
from bridge.analysis.selection import judged, refreshed
from bridge.analysis.trials import MOST_POINTS, trials
from bridge.model import Word

#: What a series may have for a detector. Those whose law is assumed or stands still between fits are checked.
DETECTORS: dict[str, type[Bank]] = {
    kind.NAME: kind for kind in (SpotBank, BelievedCounts, ShapeBank, BelievedForest, BelievedAutoencoder)
}
#: Newest values that a review looks at.
HISTORY = MOST_POINTS
#: Of the body of a row, unpacked; the rows of 32 forests are a megabyte.
_MOST_BYTES = 64 << 20


class SeriesAsk(Word, frozen=True, kw_only=True):
    """All that a review may know of one series."""

    snapshot: FitAsk
    standing: Standing
    lived: int  # values that the series had by then


class ReviewAsk(Word, frozen=True, kw_only=True):
    """Series that are reviewed together: trials of many cost less than many trials."""

    tenant: str
    fit: int  # counts up within a tenant
    series: tuple[SeriesAsk, ...]


class Review(Word, frozen=True, kw_only=True):
    """What a review says of one series."""

    series: str
    tick: int
    lived: int
    standing: Standing
    row: bytes = b""  # all that a new champion knows after those values; empty: the old one goes on
    fit: bytes = b""  # of the old one that goes on, where it is fitted


class Reviews(Word, frozen=True, kw_only=True):
    """The body of a row of kind `reviews`."""

    fit: int
    reviews: tuple[Review, ...]


class _Body(Word, frozen=True, kw_only=True):
    fit: int
    reviews: str  # msgpack, packed by zstd, in base64: half of it is numbers


def answered(ask: ReviewAsk) -> Reviews:
    """Return the reviews that were asked for. Seconds for each series; runs in the models' process."""
    return Reviews(fit=ask.fit, reviews=tuple(reviewed(ask.series)))


def reviewed(asks: Sequence[SeriesAsk], *, with_trials: bool = True) -> list[Review]:
    """Return a review for each ask, in their order; without trials the class alone decides."""
    tried = trials([ask.snapshot for ask in asks]) if with_trials else [None] * len(asks)
    found = []
    for ask, trial in zip(asks, tried, strict=True):
        times_s, values, _ = ask.snapshot.read()
        standing = refreshed(ask.standing, characteristics(times_s, values), ask.snapshot.tick)
        if trial is not None:
            standing = judged(standing, trial)
        fit = fit_of(standing.model, ask.snapshot)
        is_new = standing.model != ask.standing.model
        found.append(
            Review(
                series=ask.snapshot.series, tick=ask.snapshot.tick, lived=ask.lived, standing=standing,
                row=warmed(standing.model, fit, times_s, values) if is_new else b"", fit=b"" if is_new else fit,
            )
        )  # fmt: skip
    return found


def fit_of(model: str, snapshot: FitAsk) -> bytes:
    """Return what a detector learns from a snapshot at once; empty where it is not fitted, or there is too little."""
    kind = DETECTORS[model]
    own = kind.KIND if issubclass(kind, Believed) else kind
    return (own.fit(snapshot) or b"") if issubclass(own, FittedBank) else b""


def warmed(model: str, fit: bytes, times_s: Floats, values: Floats) -> bytes:
    """Return all that a detector knows after it lived through a history, as its bank's row."""
    bank = DETECTORS[model](1)
    if isinstance(bank, SpotBank):
        alone = SpotAlone(bank, 0)
        for time_s, value in zip(times_s.tolist(), values.tolist(), strict=True):
            alone.step(time_s, value)
        alone.put_back(bank, 0)
        return bank.row(0)
    if fit and isinstance(bank, Believed):
        bank.take(0, fit)
    for time_s, value in zip(times_s.tolist(), values.tolist(), strict=True):
        bank.learn_one(0, time_s, value, bank.score_one(0, time_s, value))
    return bank.row(0)


def told(reviews: Reviews) -> bytes:
    """Return the body of the row that brings reviews."""
    packed = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(reviews.reviews))
    return msgspec.json.encode(_Body(fit=reviews.fit, reviews=base64.b64encode(packed).decode()))


def read(body: bytes) -> Reviews:
    """Return the reviews that a row brings.

    Raises:
        ValueError: It brings none, or names a detector that is not known here.
    """
    try:
        found = msgspec.json.decode(body, type=_Body)
        packed = base64.b64decode(found.reviews, validate=True)
        plain = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MOST_BYTES)
        reviews = msgspec.msgpack.decode(plain, type=tuple[Review, ...])
    except (ValueError, msgspec.MsgspecError, zstandard.ZstdError, RecursionError) as error:
        raise ValueError(f"no reviews: {error}") from error
    for each in reviews:
        if each.standing.model not in DETECTORS:
            raise ValueError(f"no reviews: there is no detector {each.standing.model[:40]!r}")
    return Reviews(fit=found.fit, reviews=reviews)
