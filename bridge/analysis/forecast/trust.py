"""The right to publish: evidence that the model forecasts better than the reference, which holds at any time.

Theory. Who stakes all on the odds of p against those of q multiplies what he has by p/q when an event came and by
(1-p)/(1-q) when none came. While the true odds are q's, or on the other side of q, he wins nothing on average, so what
he has is an e-value: that it ever exceeds 20 has a probability of at most 1 in 20, however often one looks (Shafer and
Vovk, Game-Theoretic Foundations, 2019; Waudby-Smith and Ramdas, JRSS B 2024). p is the model's; q lies a quarter
(`MARGIN`) of the way in log odds from the reference's to the model's, for a reference that adapts is never quite right.
Bets are made on horizons that do not overlap, so that each is over before the next. Origins that are closer than a
horizon are dealt to so many purses that each of them is free of overlaps; what counts is their mean (a mean of e-values
is one), so that no luck of the first origin decides.

Drift: the same bets the other way round, for the reference and against the model, begun anew whenever they have lost
(an e-detector: Shin, Ramdas and Rinaldo, 2024). When they have won `DRIFT`, what the model earned is void, and it
begins anew with half of what it began with before: whoever may try again and again would earn it by luck one day.

Decision: no rolling average with a bound around it. Looked at again and again, such a bound published on a third of
series in which there was nothing to forecast. Decision: a quarter. With none, 8 of 100 series of chance were published
at some time, for the reference had not learned their season yet, or their rate drifted. Halfway is where both have the
same log score (Henzi and Ziegel, Biometrika 2022): no reference, however wrong, then gives its error away, but it
takes four times the evidence instead of not quite twice.
"""

from __future__ import annotations

import math

from msgspec.structs import replace

from bridge.model import Word

EARNED = 20.0
DRIFT = 100.0
LEAST_BEGUN = 1 / 64  # what it begins with after many drifts
MARGIN = 0.25
#: What a bettor may have at most, so that nobody lives on old merit for years.
MOST = 1e6
MAX_PURSES = 96


class Purse(Word, frozen=True, array_like=True):
    """What was won on one row of horizons that do not overlap."""

    free_s: float  # from when on the next horizon may be bet on
    wealth: float = 1.0
    against: float = 1.0  # of who bets the other way round


class TrustState(Word, frozen=True, kw_only=True):
    """Trust as it is stored."""

    purses: tuple[Purse, ...] = ()
    bets: int = 0  # since the last restart
    gain: float = 0.0  # nats in those
    drifts: int = 0


class Trust:
    """What a model has earned on one target."""

    def __init__(self, state: TrustState | None = None) -> None:
        """Begin with nothing earned, or where a stored one was."""
        known = state or TrustState()
        self._purses = list(known.purses)
        self.bets, self.gain, self.drifts = known.bets, known.gain, known.drifts

    @property
    def e_value(self) -> float:
        """How much evidence there is; 1 is none."""
        return sum(each.wealth for each in self._purses) / len(self._purses) if self._purses else 1.0

    @property
    def earned(self) -> bool:
        """Whether the model may publish."""
        return self.e_value > EARNED

    def purse(self, origin_s: float, horizon_s: float) -> int:
        """Return the purse that bets on this origin's horizon, -1: none; it is kept free of others."""
        for number, each in enumerate(self._purses):
            if origin_s >= each.free_s:
                self._purses[number] = replace(each, free_s=origin_s + horizon_s)
                return number
        if len(self._purses) >= MAX_PURSES:
            return -1
        self._purses.append(Purse(origin_s + horizon_s, self._begun()))
        return len(self._purses) - 1

    def learn(self, purse: int, model: float, reference: float, *, happened: bool) -> None:
        """Settle one bet; both probabilities lie strictly between 0 and 1."""
        for_model, for_reference = boundary(reference, model), boundary(model, reference)
        if not happened:
            model, reference = 1.0 - model, 1.0 - reference
            for_model, for_reference = 1.0 - for_model, 1.0 - for_reference
        kept = self._purses[purse]
        self._purses[purse] = replace(
            kept,
            wealth=min(MOST, kept.wealth * model / for_model),
            against=max(1.0, kept.against) * reference / for_reference,
        )
        self.bets += 1
        self.gain += math.log(model / reference)
        if sum(each.against for each in self._purses) > DRIFT * len(self._purses):
            self.bets, self.gain = 0, 0.0
            self.drifts += 1
            self._purses = [Purse(each.free_s, self._begun()) for each in self._purses]

    def _begun(self) -> float:
        return max(LEAST_BEGUN, math.exp2(-self.drifts))

    def state(self) -> TrustState:
        """Return all it knows."""
        return TrustState(purses=tuple(self._purses), bets=self.bets, gain=self.gain, drifts=self.drifts)


def boundary(near: float, far: float) -> float:
    """Return the probability that is bet against: `MARGIN` of the way from the one to the other, in log odds."""
    logit = (1.0 - MARGIN) * math.log(near / (1.0 - near)) + MARGIN * math.log(far / (1.0 - far))
    return 1.0 / (1.0 + math.exp(-logit))
