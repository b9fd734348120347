"""The forecaster: what is said at each origin, and what is learned once its horizon has passed.

Theory of operation. At an origin the reference says r, each model moves its log odds, the mixture and the scaling make
p of them. If trust is earned, p is the forecast, else r is, and that there is no skill is said. When the horizon has
passed, the outcome teaches the reference, the mixture, trust, and by the clock the models (prequential: Dawid, JRSS A
1984). Nothing that is said can depend on what comes after its origin.

Rules: results do not depend on how origins are put into calls. A fit is asked for at an origin and acts from a later
one or from the same, as the caller says. A forecast that people acted on teaches nothing: whether it was wrong or was
heeded in time nobody can tell (Uptake).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from msgspec.structs import replace

from bridge.analysis.forecast import logistic
from bridge.analysis.forecast.features import features, kinds_of
from bridge.analysis.forecast.kept import ACTED, BY_MODELS, HAPPENED, Kept, KeptState, columns_of
from bridge.analysis.forecast.logistic import Model, Weights, logit, sigmoid
from bridge.analysis.forecast.mixing import Mixture, scaled, scaling
from bridge.analysis.forecast.occurrences import Floats, Occurrences
from bridge.analysis.forecast.reasons import Reason, reasons
from bridge.analysis.forecast.reference import Reference, ReferenceState
from bridge.analysis.forecast.trust import Trust, TrustState
from bridge.model import Word

DAY_S = 86_400.0
#: By how much each model holds back each kind of feature; what it does not name has no say.
MEMBERS: tuple[dict[str, float], ...] = (
    {"few": 3.0},
    {"few": 10.0, "calendar": 10.0},
    {"few": 10.0, "recent": 10.0, "calendar": 100.0},
    {"few": 30.0, "recent": 50.0, "calendar": 100.0},
    {"few": 30.0, "recent": 50.0, "calendar": 50.0, "hashed": 300.0},
)
REFERENCE_PENALTY = 30.0  # on bending the reference's own log odds
FIRST_FIT_S, GROWTH, MOST_BETWEEN_FITS_S = 7 * DAY_S, 0.1, 30 * DAY_S
LEAST_HAPPENED = 10  # horizons in which something happened, before a model is fitted
MAX_ORIGINS = 20_000  # that a fit learns from, the newest
BLOCK = 4096  # origins whose features are taken at once

Name = Literal["reference", "logistic"]


class Said(Word, frozen=True, kw_only=True):
    """What is said at one origin."""

    origin_s: float
    probability: float  # what is given: the model's if it earned that, else the reference's
    published: bool  # whether there is skill
    model: Name  # who gave it
    reference: float
    said: float  # by the models, published or not


class Told(Word, frozen=True, array_like=True):
    """A forecast as it is remembered until its outcome is known."""

    origin_s: float
    reference: float
    members: tuple[float, ...]  # the reference and what each model said; empty: there was no model
    mixed: float  # what the mixture said, not scaled
    said: float
    purse: int  # that bets on it; -1: none
    acted: bool = False


class FitAsk(Word, frozen=True, kw_only=True):
    """All that one fit may know."""

    kept: KeptState
    weight: float  # of one origin: the share of its horizon that is its own
    now_s: float


class Fit(Word, frozen=True, kw_only=True):
    """The answer: one set of weights per member, and the scaling of the mixture."""

    members: tuple[Weights, ...]
    shift: float
    scale: float


class ForecasterState(Word, frozen=True, kw_only=True):
    """A forecaster as it is stored."""

    step_s: float
    reference: ReferenceState
    trust: TrustState
    mixture: tuple[float, ...]
    fit: Fit | None
    next_fit_s: float
    awaited: tuple[Told, ...]
    kept: KeptState


def fit_models(ask: FitAsk, own: Occurrences, every: Occurrences | None = None) -> Fit:
    """Learn from what was told. A pure function, on one thread; a second for 20,000 origins."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - only fits pay for it

    origins, references, mixed, happened, by_models = columns_of(ask.kept)
    reference, said = logit(references), logit(mixed)
    weights = ask.weight * np.exp2((origins - ask.now_s) / logistic.HALF_LIFE_S)
    rows = features(origins, own, every)
    kinds = kinds_of(1 if every is None else 2)
    with threadpool_limits(1):  # a second thread would add up in another order
        members = tuple(
            logistic.fit(
                rows, reference, happened, weights,
                np.array([REFERENCE_PENALTY, *(member.get(kind, np.inf) for kind in kinds)]),
            )
            for member in MEMBERS
        )  # fmt: skip
        shift, scale = scaling(reference[by_models], said[by_models], happened[by_models], weights[by_models])
    return Fit(members=members, shift=shift, scale=scale)


Fitting = Callable[[FitAsk, Occurrences, Occurrences | None], Fit]


class Forecaster:
    """Forecasts of one target at one horizon."""

    def __init__(self, *, since_s: float, horizon_s: float, step_s: float) -> None:
        """Know nothing at `since_s`. Origins will be `step_s` apart."""
        self.horizon_s, self.step_s = horizon_s, step_s
        self.weight = min(1.0, step_s / horizon_s)
        self.reference = Reference(since_s=since_s, horizon_s=horizon_s)
        self.trust = Trust()
        self.mixture = Mixture(1 + len(MEMBERS))
        self.fit: Fit | None = None
        self._models: list[Model] = []
        self._next_fit_s = since_s + FIRST_FIT_S
        self._awaited: deque[Told] = deque()
        self._kept = Kept(MAX_ORIGINS)

    # ---- the straight path -------------------------------------------------------------------------------

    def forecasts(
        self,
        origins: Floats,
        own: Occurrences,
        every: Occurrences | None = None,
        *,
        fit: Fitting = fit_models,
    ) -> Iterator[Said]:
        """Yield a forecast for each origin; a fit that is due is made on the spot and acts at once.

        Args:
            origins: Epoch s, ascending, after those of earlier calls.
            own: Events of the target, at least those up to the last origin; later ones are not looked at.
            every: All events, where the target is not all of them.
            fit: What fits.
        """
        first = 0
        while first < len(origins):
            now_s = float(origins[first])
            ask = self.due(now_s, own)
            if ask is not None:
                self.take(fit(ask, own, every))
            last = int(np.searchsorted(origins, self._next_fit_s, "left"))
            last = max(first + 1, min(last, first + BLOCK))
            yield from self.say(origins[first:last], own, every)
            first = last

    def say(self, origins: Floats, own: Occurrences, every: Occurrences | None = None) -> Iterator[Said]:
        """Yield a forecast for each origin with the models that are there."""
        references = np.array([self._refer(origin_s, own) for origin_s in origins.tolist()])
        members = np.tile(references[:, None], (1, 1 + len(self._models)))
        if self._models:
            logits = logit(references)
            rows = features(origins, own, every)
            for number, model in enumerate(self._models, 1):
                members[:, number] = sigmoid(logits + model.shifts(rows, logits))
        for origin_s, said in zip(origins.tolist(), members, strict=True):
            self.settle(origin_s, own)
            yield self._forecast(origin_s, said)

    def _refer(self, origin_s: float, own: Occurrences) -> float:
        reference = self.reference
        reference.advance(origin_s, own.starts[slice(*own.range(reference.at_s, origin_s))])
        reference.learn(origin_s, self._outcomes(reference.passed(origin_s), own))
        return reference.ask(origin_s, self.weight)

    def _outcomes(self, origins: Sequence[float], own: Occurrences) -> list[bool]:
        since = np.array(origins, np.float64)
        return [bool(number) for number in own.begun(since, since + self.horizon_s)]

    def _forecast(self, origin_s: float, members: Floats) -> Said:
        reference = float(members[0])
        has_models = len(members) > 1
        said = mixed = reference
        if has_models and self.fit is not None:
            mixed = self.mixture.said(members)
            said = scaled(reference, mixed, self.fit.shift, self.fit.scale)
        self._awaited.append(
            Told(
                origin_s=origin_s, reference=reference, mixed=mixed, said=said,
                members=tuple(members.tolist()) if has_models else (),
                purse=self.trust.purse(origin_s, self.horizon_s) if has_models else -1,
            )
        )  # fmt: skip
        published = has_models and self.trust.earned
        return Said(
            origin_s=origin_s, probability=said if published else reference, published=published,
            model="logistic" if published else "reference", reference=reference, said=said,
        )  # fmt: skip

    def reasons(
        self, origin_s: float, own: Occurrences, every: Occurrences | None = None, *, scopes: Sequence[str]
    ) -> tuple[Reason, ...]:
        """Return what moved the odds of the models at the origin of the last forecast; none without models.

        `scopes` name what is counted: see `reasons.reasons`. What a model adds counts as far as it is trusted.
        """
        if self.fit is None:
            return ()
        rows = features(np.array([origin_s]), own, every)
        logits = logit(np.array([self._awaited[-1].reference if self._awaited else 0.5]))
        parts = sum(
            trust * model.parts(rows, logits)[0]
            for trust, model in zip(self.mixture.trust[1:], self._models, strict=True)
        )
        return reasons(rows[0], np.asarray(parts) * self.fit.scale, scopes)

    # ---- learning ----------------------------------------------------------------------------------------

    def settle(self, now_s: float, own: Occurrences) -> None:
        """Learn from all outcomes whose horizon has passed."""
        passed: list[Told] = []
        while self._awaited and self._awaited[0].origin_s + self.horizon_s <= now_s:
            passed.append(self._awaited.popleft())
        for told, happened in zip(
            passed, self._outcomes([each.origin_s for each in passed], own), strict=True
        ):
            if told.members and not told.acted:
                self.mixture.learn(np.array(told.members), self.weight, happened=happened)
                if told.purse >= 0:
                    self.trust.learn(told.purse, told.said, told.reference, happened=happened)
            flags = HAPPENED * happened | ACTED * told.acted | BY_MODELS * bool(told.members)
            self._kept.add(told.origin_s, told.reference, told.mixed, flags)

    def acted(self, origin_s: float) -> None:
        """Mark a forecast that people acted on, and those whose horizon overlaps with its own: they teach nothing."""
        self._kept.act(origin_s - self.horizon_s, origin_s + self.horizon_s)
        for number, each in enumerate(self._awaited):
            if abs(each.origin_s - origin_s) < self.horizon_s:
                self._awaited[number] = replace(each, acted=True)

    def due(self, now_s: float, own: Occurrences) -> FitAsk | None:
        """Return what to fit, if a fit is due now and there is enough to learn from."""
        if now_s < self._next_fit_s:
            return None
        self.settle(now_s, own)
        since_s = self.reference.since_s
        wait_s = min(MOST_BETWEEN_FITS_S, max(DAY_S, GROWTH * (now_s - since_s)))
        self._next_fit_s = (now_s // DAY_S) * DAY_S + max(DAY_S, wait_s // DAY_S * DAY_S)
        kept = self._kept.state()
        if columns_of(kept).happened.sum() * self.weight < LEAST_HAPPENED:
            return None
        return FitAsk(kept=kept, weight=self.weight, now_s=now_s)

    def take(self, fit: Fit) -> None:
        """Let a fit act from here on.

        Raises:
            ValueError: It is none.
        """
        self._models = [Model(weights) for weights in fit.members]
        self.fit = fit

    # ---- being stored ------------------------------------------------------------------------------------

    def state(self, most: int | None = None) -> ForecasterState:
        """Return all it knows; `most`: of how many origins the outcome is kept to learn from."""
        return ForecasterState(
            step_s=self.step_s, reference=self.reference.state(), trust=self.trust.state(),
            mixture=tuple(self.mixture.trust.tolist()), fit=self.fit, next_fit_s=self._next_fit_s,
            awaited=tuple(self._awaited), kept=self._kept.state(most),
        )  # fmt: skip

    @classmethod
    def of(cls, state: ForecasterState) -> Forecaster:
        """Return what was stored.

        Raises:
            ValueError: Its parts do not fit together.
        """
        kept = state.reference
        found = cls(since_s=kept.since_s, horizon_s=kept.horizon_s, step_s=state.step_s)
        found.reference, found.trust = Reference.of(kept), Trust(state.trust)
        found.mixture = Mixture(1 + len(MEMBERS), np.array(state.mixture))
        if state.fit is not None:
            found.take(state.fit)
        found._next_fit_s = state.next_fit_s
        found._awaited.extend(state.awaited)
        found._kept = Kept(MAX_ORIGINS, state.kept)
        return found
