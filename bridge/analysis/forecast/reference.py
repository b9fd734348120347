"""The reference: how likely an event is by nothing but how often events come, and at which hours.

Theory. Events come as a Poisson process whose rate is a base times a season. The base has a gamma posterior that
forgets exponentially (conjugate: Gelman et al., Bayesian Data Analysis, 3rd edition, section 2.6; forgetting: West and
Harrison, Bayesian Forecasting and Dynamic Models, section 10.8), so that over a horizon in which the season adds up to
S the probability of no event is (beta / (beta + S)) ** alpha. Where events come in clumps, only the clumps are Poisson:
the exponent is multiplied by the share of events that begin a clump (compound Poisson).
The season is the rate in each hour of the day, and of each hour of the week around that, shrunk towards no season by
pseudo-events. Nobody knows which half-life, season and clumping are right, so every combination forecasts, and they
are mixed by how well each did (a Bayesian mixture with a fixed share that goes round: Herbster and Warmuth, Tracking
the best expert, Machine Learning 1998).

Rules: it learns from an outcome only once the horizon has passed. A longer horizon is never less likely, as its state
stands. Hours are UTC. Cost: about 0.1 ms per step, 20 kB of state.

Decision: a mixture rather than one tuned half-life. What adapts too slowly leaves skill to whatever adapts faster: a
model that merely follows the rate would then look as if it saw something coming.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from bridge.model import Word

Floats = NDArray[np.float64]

HOUR_S, DAY_S, WEEK_HOURS = 3600.0, 86_400.0, 168
#: After which time an event counts half, s.
HALF_LIVES_S = (DAY_S, 3 * DAY_S, 10 * DAY_S, 30 * DAY_S, 100 * DAY_S, 365 * DAY_S)
#: What share of the events begins a clump.
CLUMPS = (1.0, 0.6, 0.35, 0.2, 0.1, 0.05)
SEASON_HALF_LIFE_S = 365 * DAY_S
FLAT, DAILY, WEEKLY = range(3)
SEASONS = 3
#: Pseudo-events: of the base rate per day, of a short half-life at the longest one's rate, of a season per hour.
PRIOR_EVENTS, PRIOR_DAYS, SHORT_PRIOR, SEASON_PRIOR, WEEK_PRIOR = 0.5, 0.5, 1.0, 1.0, 4.0
#: Share of the trust in each member that goes round per horizon.
SHARE = 1e-4
LEAST = 1e-6  # no probability is nearer to 0 or 1
_DECAY = np.log(2.0) / np.array(HALF_LIVES_S)
_CLUMP = np.array(CLUMPS)
_MEMBERS = len(HALF_LIVES_S) * SEASONS * len(CLUMPS)


class ReferenceState(Word, frozen=True, kw_only=True):
    """A reference as it is stored: float64, little-endian."""

    horizon_s: float
    since_s: float
    at_s: float
    counts: bytes  # per half-life
    exposures: bytes  # per half-life and season
    season_counts: bytes  # per hour of the week
    season_exposures: bytes
    season_at_s: float
    factors: bytes  # per season and hour of the week
    trust: bytes  # per member, logarithm
    waiting: tuple[tuple[float, float, bytes], ...]  # origin, weight, what each member said


class Reference:
    """The adaptive rate of one target at one horizon."""

    def __init__(self, *, since_s: float, horizon_s: float) -> None:
        """Know nothing at `since_s`; outcomes of `horizon_s` (> 0) teach which members to trust."""
        self.horizon_s = horizon_s
        self.since_s = since_s
        self.at_s = since_s
        self._counts = np.zeros(len(HALF_LIVES_S))
        self._exposures = np.zeros((len(HALF_LIVES_S), SEASONS))
        self._season_counts = np.zeros(WEEK_HOURS)
        self._season_exposures = np.zeros(WEEK_HOURS)
        self._season_at_s = since_s
        self._factors = np.ones((SEASONS, WEEK_HOURS))
        self._sums = _sums_of(self._factors)
        self._trust = np.zeros(_MEMBERS)
        self._waiting: list[tuple[float, float, Floats]] = []

    # ---- learning ----------------------------------------------------------------------------------------

    def advance(self, until_s: float, starts: Floats) -> None:
        """Let time run to `until_s`; `starts` are the events since the last call, ascending."""
        first = 0
        while self.at_s < until_s:
            end_s = min(until_s, (math.floor(self.at_s / HOUR_S) + 1) * HOUR_S)
            last = int(np.searchsorted(starts, end_s, "right"))
            self._run_to(end_s, starts[first:last])
            first = last
            if end_s % DAY_S == 0.0:
                self._learn_season(end_s)

    def _run_to(self, end_s: float, starts: Floats) -> None:
        elapsed_s = end_s - self.at_s
        kept = np.exp(-_DECAY * elapsed_s)
        exposed = self._season_between(self.at_s, end_s)
        self._counts *= kept
        if len(starts):
            self._counts += np.exp(-np.outer(_DECAY, end_s - starts)).sum(axis=1)
        self._exposures = self._exposures * kept[:, None] + np.sqrt(kept)[:, None] * exposed
        hour = int(self.at_s // HOUR_S + 96) % WEEK_HOURS  # the epoch began on a Thursday
        self._season_counts[hour] += len(starts)
        self._season_exposures[hour] += elapsed_s / HOUR_S
        self.at_s = end_s

    def _learn_season(self, now_s: float) -> None:
        kept = math.exp2(-(now_s - self._season_at_s) / SEASON_HALF_LIFE_S)
        self._season_at_s = now_s
        self._season_counts *= kept
        self._season_exposures *= kept
        self._factors = _season(self._season_counts, self._season_exposures)
        self._sums = _sums_of(self._factors)

    def ask(self, origin_s: float, weight: float) -> float:
        """Return the probability of (origin, origin + horizon] and wait for its outcome.

        `origin_s` is where time has run to; `weight`: how much the outcome will count, 0..1.
        """
        members = self._members(self.horizon_s)
        self._waiting.append((origin_s, weight, members))
        return float(self._trusted() @ members)

    def learn(self, now_s: float, happened: Sequence[bool]) -> int:
        """Learn from the oldest awaited outcomes; return how many. Those whose horizon has not passed stay."""
        learned = 0
        for (origin_s, weight, said), each in zip(self._waiting, happened, strict=False):
            if origin_s + self.horizon_s > now_s:
                break
            self._trust += weight * np.log(said if each else 1.0 - said)
            self._trust -= self._trust.max()
            trust = np.exp(self._trust)
            trust /= trust.sum()
            share = SHARE * weight
            self._trust = np.log((1.0 - share) * trust + share / _MEMBERS)
            learned += 1
        del self._waiting[:learned]
        return learned

    def passed(self, now_s: float) -> list[float]:
        """Return the origins whose horizon has passed and whose outcome was not learned yet, oldest first."""
        waiting = (origin_s for origin_s, _, _ in self._waiting)
        return list(takewhile(lambda origin_s: origin_s + self.horizon_s <= now_s, waiting))

    # ---- forecasting -------------------------------------------------------------------------------------

    def probability(self, horizon_s: float | None = None) -> float:
        """Return the probability that an event begins within the horizon from now on."""
        return float(self._trusted() @ self._members(self.horizon_s if horizon_s is None else horizon_s))

    def expected(self, horizon_s: float | None = None) -> tuple[float, float, float]:
        """Return how many events are expected within the horizon, and an interval that holds four in five.

        By the half-life and season that are trusted most. The interval is the gamma posterior's spread and the
        Poisson's, in the Wilson-Hilferty approximation; its lower end is never below 0.
        """
        best = int(np.argmax(self._trust))
        life, season, clump = np.unravel_index(best, (len(HALF_LIVES_S), SEASONS, len(CLUMPS)))
        alpha, beta = self._posterior()
        span = self._season_between(self.at_s, self.at_s + (horizon_s or self.horizon_s))[season]
        mean = float(alpha[life, season] / beta[life, season] * span)
        spread = 1.0 / float(_CLUMP[clump]) + mean / float(alpha[life, season])
        size = max(mean / spread, 1e-9)  # of a gamma with the same mean and variance
        ends = [
            mean * max(0.0, 1.0 - 1.0 / (9.0 * size) + side / (3.0 * math.sqrt(size))) ** 3
            for side in (-1.2816, 1.2816)
        ]
        return mean, ends[0], ends[1]

    def _trusted(self) -> Floats:
        trust = np.exp(self._trust - self._trust.max())
        found: Floats = trust / trust.sum()
        return found

    def _posterior(self) -> tuple[Floats, Floats]:
        """Return alpha and beta (in hours of an average season) per half-life and season."""
        longest = (PRIOR_EVENTS + self._counts[-1]) / (PRIOR_DAYS * 24.0 + self._exposures[-1])
        alpha = np.broadcast_to((SHORT_PRIOR + self._counts)[:, None], self._exposures.shape).copy()
        beta = SHORT_PRIOR / longest[None, :] + self._exposures
        alpha[-1] = PRIOR_EVENTS + self._counts[-1]
        beta[-1] = PRIOR_DAYS * 24.0 + self._exposures[-1]
        return alpha, beta

    def _members(self, horizon_s: float) -> Floats:
        alpha, beta = self._posterior()
        span = self._season_between(self.at_s, self.at_s + horizon_s)
        log_none = -alpha * np.log1p(span[None, :] / beta)
        none = np.exp(log_none[:, :, None] * _CLUMP)
        found: Floats = np.clip(1.0 - none, LEAST, 1.0 - LEAST).ravel()
        return found

    def _season_between(self, since_s: float, until_s: float) -> Floats:
        """Return what each season adds up to, in hours of the average one."""
        return self._season_until(until_s) - self._season_until(since_s)

    def _season_until(self, at_s: float) -> Floats:
        weeks, rest = divmod(at_s / HOUR_S + 96.0, float(WEEK_HOURS))
        hour = min(int(rest), WEEK_HOURS - 1)
        found: Floats = (
            weeks * self._sums[:, -1] + self._sums[:, hour] + (rest - hour) * self._factors[:, hour]
        )
        return found

    # ---- being stored ------------------------------------------------------------------------------------

    def state(self) -> ReferenceState:
        """Return all it knows."""
        return ReferenceState(
            horizon_s=self.horizon_s, since_s=self.since_s, at_s=self.at_s, counts=_bytes(self._counts),
            exposures=_bytes(self._exposures), season_counts=_bytes(self._season_counts),
            season_exposures=_bytes(self._season_exposures), season_at_s=self._season_at_s,
            factors=_bytes(self._factors), trust=_bytes(self._trust),
            waiting=tuple((origin_s, weight, _bytes(said)) for origin_s, weight, said in self._waiting),
        )  # fmt: skip

    @classmethod
    def of(cls, state: ReferenceState) -> Reference:
        """Return what was stored.

        Raises:
            ValueError: Its parts are of other sizes.
        """
        found = cls(since_s=state.since_s, horizon_s=state.horizon_s)
        found.at_s, found._season_at_s = state.at_s, state.season_at_s
        found._counts = _array(state.counts, found._counts)
        found._exposures = _array(state.exposures, found._exposures)
        found._season_counts = _array(state.season_counts, found._season_counts)
        found._season_exposures = _array(state.season_exposures, found._season_exposures)
        found._factors = _array(state.factors, found._factors)
        found._sums = _sums_of(found._factors)
        found._trust = _array(state.trust, found._trust)
        found._waiting = [
            (origin_s, weight, _array(said, found._trust)) for origin_s, weight, said in state.waiting
        ]
        return found


def _season(counts: Floats, exposures: Floats) -> Floats:
    """Return the factor of each hour of the week: none, by the hour of the day, by the hour of the week."""
    total, hours = counts.sum(), exposures.sum()
    factors = np.ones((SEASONS, WEEK_HOURS))
    if total <= 0.0 or hours <= 0.0:
        return factors
    expected = exposures * (total / hours)
    by_day, in_day = counts.reshape(7, 24), expected.reshape(7, 24)
    daily = _shrunk(_smooth(by_day.sum(axis=0)), _smooth(in_day.sum(axis=0)), SEASON_PRIOR)
    factors[DAILY] = np.tile(daily / daily.mean(), 7)
    in_week = in_day * daily
    days = _shrunk(by_day.sum(axis=1), in_week.sum(axis=1), SEASON_PRIOR)
    product = daily[None, :] * days[:, None]
    joint = _smooth((in_day * product).ravel())
    weekly = product.ravel() * _shrunk(_smooth(counts), joint, WEEK_PRIOR)
    factors[WEEKLY] = weekly / weekly.mean()
    return factors


def _shrunk(counts: Floats, expected: Floats, prior: float) -> Floats:
    found: Floats = (counts + prior) / (expected + prior)
    return found


def _smooth(values: Floats) -> Floats:
    """Return a circle of values, each mixed with its neighbours."""
    found: Floats = (np.roll(values, 1) + 2.0 * values + np.roll(values, -1)) / 4.0
    return found


def _sums_of(factors: Floats) -> Floats:
    sums = np.zeros((len(factors), WEEK_HOURS + 1))
    np.cumsum(factors, axis=1, out=sums[:, 1:])
    return sums


def _bytes(values: Floats) -> bytes:
    return values.astype("<f8").tobytes()


def _array(stored: bytes, like: Floats) -> Floats:
    return np.frombuffer(stored, "<f8").astype(np.float64).reshape(like.shape)
