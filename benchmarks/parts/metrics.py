"""How well a grouping agrees with the truth: exact figures over contingency tables, never over all pairs.

A grouping says of every item (an episode of an alert) to which group it belongs; the truth says to which incident.

* pairwise: of the pairs of items that stand in one group, how many belong together (precision); of those that belong
  together, how many stand in one group (recall). Large incidents dominate: their pairs grow with the square.
* B-cubed: the same per item, averaged over items: each item weighs the same, lone ones too.
* ARI: pairwise agreement above what random groups of the same sizes would have; 1 is perfect, 0 is chance.
* found: the share of true incidents of two items or more of which some group has a Jaccard of at least one half.
  Lone items (noise) are left out, or a grouping that puts nothing together would find most incidents.
* compression: 1 - groups / items. No figure of merit: whoever merges everything has the best one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import fsum

FOUND_AT = 0.5  # Jaccard


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The figures of one grouping; all 0..1 but `ari`, which may be below 0, and the counts."""

    precision: float
    recall: float
    f1: float
    b3_precision: float
    b3_recall: float
    b3_f1: float
    ari: float
    found: float
    groups: int
    items: int

    @property
    def compression(self) -> float:
        """The share of messages that nobody has to read, right or wrong."""
        return 1 - self.groups / self.items if self.items else 0.0


def agreement(truth: Sequence[Hashable], guess: Sequence[Hashable]) -> Agreement:
    """Return how `guess` agrees with `truth`: two labels per item, in the same order. Linear in the items.

    The order of the items changes no digit.
    """
    both = Counter(zip(truth, guess, strict=True))
    of_truth, of_guess = Counter(truth), Counter(guess)
    items = len(truth)
    together, meant, made = (_pairs(sizes) for sizes in (both, of_truth, of_guess))
    precision, recall = _ratio(together, made), _ratio(together, meant)
    b3_precision = fsum(count * count / of_guess[group] for (_, group), count in both.items())
    b3_recall = fsum(count * count / of_truth[incident] for (incident, _), count in both.items())
    b3_precision, b3_recall = _ratio(b3_precision, items), _ratio(b3_recall, items)
    return Agreement(
        precision=precision, recall=recall, f1=harmonic(precision, recall), b3_precision=b3_precision,
        b3_recall=b3_recall, b3_f1=harmonic(b3_precision, b3_recall), ari=_ari(together, meant, made, items),
        found=_found(both, of_truth, of_guess), groups=len(of_guess), items=items,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Touching:
    """The figures of some incidents among items of which nobody knows how they belong together."""

    precision: float  # of the pairs in one group that touch one of the incidents
    recall: float
    f1: float
    found: float
    groups: int  # in which the incidents' items stand
    strangers: int  # other items in these groups


def touching(truth: Sequence[Hashable], guess: Sequence[Hashable], known: AbstractSet[Hashable]) -> Touching:
    """Return how `guess` agrees with the incidents in `known`; pairs of two other items are not judged."""
    both = Counter((a, b) for a, b in zip(truth, guess, strict=True) if a in known)
    of_known = Counter(incident for incident in truth if incident in known)
    mine, of_guess = Counter(b for a, b in zip(truth, guess, strict=True) if a in known), Counter(guess)
    together, meant = _pairs(both), _pairs(of_known)
    made = sum(count * (count - 1) // 2 + count * (of_guess[group] - count) for group, count in mine.items())
    precision, recall = _ratio(together, made), _ratio(together, meant)
    return Touching(
        precision=precision, recall=recall, f1=harmonic(precision, recall), found=_found(both, of_known, of_guess),
        groups=len(mine), strangers=sum(of_guess[group] - count for group, count in mine.items()),
    )  # fmt: skip


def averaged(figures: Sequence[Agreement]) -> Agreement:
    """Return the mean of each figure over several worlds; counts are added."""
    names = ("precision", "recall", "f1", "b3_precision", "b3_recall", "b3_f1", "ari", "found")
    means = {name: sum(getattr(each, name) for each in figures) / len(figures) for name in names}
    return Agreement(
        **means, groups=sum(each.groups for each in figures), items=sum(each.items for each in figures)
    )


def harmonic(precision: float, recall: float) -> float:
    """Return the F1 of a precision and a recall."""
    return _ratio(2 * precision * recall, precision + recall, empty=0.0)


def _pairs(sizes: Counter) -> int:
    return sum(size * (size - 1) // 2 for size in sizes.values())


def _ratio(part: float, whole: float, *, empty: float = 1.0) -> float:
    return part / whole if whole else empty


def _ari(together: int, meant: int, made: int, items: int) -> float:
    pairs = items * (items - 1) // 2
    by_chance = meant * made / pairs if pairs else 0.0
    most = (meant + made) / 2
    return 1.0 if most == by_chance else (together - by_chance) / (most - by_chance)


def _found(both: Counter, of_truth: Counter, of_guess: Counter) -> float:
    found = {
        incident
        for (incident, group), count in both.items()
        if of_truth[incident] > 1 and count >= FOUND_AT * (of_truth[incident] + of_guess[group] - count)
    }
    return _ratio(len(found), sum(1 for size in of_truth.values() if size > 1))
