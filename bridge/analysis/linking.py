"""Linking: how likely does an episode share its cause with an incident, and why.

The first linker, without learning: time burst, shared labels weighted by what they name and by how few open
incidents have them, same kind of alert, similar text, same Alertmanager group. Where time alone says nothing, after a
silence, it chooses (`pipeline.gathering`).

Theory: every feature is in 0..1 and enters one logistic score, so the reasons are the terms of a sum. Two alerts
seconds apart need something in common; minutes apart they need a lot. Labels are read as *entities*
(`analysis.entities`), and what is named in most incidents of a tenant counts for little (`analysis.rarity`).

What an incident holds counts by the share of its alerts that hold it, nearness in time included: the time feature
is that of the alerts with something in common, multiplied by their share. Otherwise a large incident, which has
seen every namespace and is never more than a second old, draws in whatever comes.

Decision: what a thing is worth is also divided by the number of incidents that are open *now* and name it: where
three incidents hold one service, its name does not say which of them an alert belongs to. A host, a service or a
workload keeps half of its worth however common it is: where everything runs on one machine, alerts of one second
are one incident all the same.

Without models (`model-free`) the family and text features are absent and the others carry on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from functools import lru_cache

from bridge.analysis import matchers
from bridge.analysis.entities import SPECIFIC_WEIGHT, Token, subject_of
from bridge.model import Word

FAMILY_MARK = "\0family "
GROUP_MARK = "\0group "

BURST_S = 90.0  # e-folding time of the time feature
LEAST_RARITY = 0.5  # of a host, a service, a workload
ALIKE_AT = 0.6  # below that cosine two texts differ to a reader, too
IN_MINUTES_FROM_S = 120.0
MOST_SHARED = 3  # that a sentence names
#: Logit weights, set by hand from what each feature must be able to do alone; see the module docstring.
BIAS, BURST, SHARED, FAMILY, TEXT, GROUP = -2.2, 2.1, 3.2, 1.3, 1.0, 1.0


class Features(Word, frozen=True, kw_only=True):
    """What speaks for an episode belonging to an incident; all 0..1."""

    lag_s: float
    burst: float
    shared: float
    shared_keys: tuple[str, ...]
    same_kind: bool  # its own template, not only one of the family
    family: float
    text: float | None
    group: float


class Link(Word, frozen=True, kw_only=True):
    """Probability 0..1 that an episode and an incident share a cause, with the reasons."""

    probability: float
    features: Features


def family_token(family: str) -> str:
    """Return the key under which incidents with alerts of `family` are found."""
    return FAMILY_MARK + family


def group_token(source: str, group_key: str) -> str:
    """Return the key under which incidents with alerts of one Alertmanager group are found; "" for none.

    A route without `group_by` (`{}:{}`), or one that groups by cluster or by alert name alone, puts together what
    has nothing in common, or what is of one family anyway: such a group says nothing.
    """
    return f"{GROUP_MARK}{source} {group_key}" if _says_something(group_key) else ""


@lru_cache(maxsize=4096)
def _says_something(group_key: str) -> bool:
    """Say whether a group's own labels name a thing. `group_key` is `<routes>:<label set>`, Go's way of writing."""
    try:
        listed = matchers.parse_list(group_key[group_key.rindex(":{") + 1 :])
    except ValueError:  # not Alertmanager's form, or a label value that holds `:{`
        return False
    return subject_of({matcher.name: matcher.value for matcher in listed}) is not None


def worth(tokens: tuple[Token, ...], rarity: Callable[[str], float]) -> list[tuple[Token, float]]:
    """Return each token with what sharing it says for this tenant, 0..1.

    Args:
        tokens: What an alert names.
        rarity: How rare a key is in the tenant's incidents, 0..1.
    """
    return [
        (token, token.weight * (max(LEAST_RARITY, rare) if token.weight > SPECIFIC_WEIGHT else rare))
        for token, rare in ((token, rarity(token.key)) for token in tokens)
    ]


def burst(lag_s: float) -> float:
    """Return the time feature of a lag, 1 at once and falling."""
    return math.exp(-max(0.0, lag_s) / BURST_S)


def probability(features: Features, sensitivity: float) -> float:
    """Return the probability of a common cause. `sensitivity` 0..1 moves it by up to two logits either way."""
    score = BIAS + BURST * features.burst + SHARED * features.shared + FAMILY * features.family
    score += GROUP * features.group + (sensitivity - 0.5) * 4.0
    if features.text is not None:
        score += TEXT * features.text
    return 1.0 / (1.0 + math.exp(-score))


@lru_cache(maxsize=16_384)
def likeness(left: bytes, right: bytes) -> float:
    """Return the cosine of two unit vectors (little-endian float16), rounded to four digits; 1 is equal."""
    import numpy as np  # noqa: PLC0415 - the front reads words of this room, and has no use for numpy

    product = np.frombuffer(left, "<f2").astype(np.float32) @ np.frombuffer(right, "<f2").astype(np.float32)
    return round(float(product), 4)


def explain(link: Link) -> str:
    """Return why an episode joined, as a sentence with its numbers."""
    features = link.features
    reasons = []
    if features.shared_keys:
        shared = features.shared_keys[:MOST_SHARED]
        reasons.append("same " + ", ".join(key.replace("=", " ", 1) for key in shared))
    if features.same_kind:
        reasons.append("same kind of alert")
    elif features.family:
        reasons.append("similar kind of alert")
    elif features.text is not None and features.text >= ALIKE_AT:
        reasons.append(f"similar text ({features.text:.2f})")
    if features.group:
        reasons.append("same Alertmanager group")
    reasons.append(f"{_lag(features.lag_s)} apart")
    return f"{', '.join(reasons)} (p={link.probability:.2f})"


def explain_shared(tokens: Sequence[Token], held: Container[str]) -> str:
    """Return what an alert shares with an incident that holds these keys, as the beginning of a sentence, or ""."""
    shared = [token.key.replace("=", " ", 1) for token in tokens if token.key in held]
    return f"same {', '.join(shared[:MOST_SHARED])}; " if shared else ""


def _lag(lag_s: float) -> str:
    return f"{lag_s:.0f} s" if lag_s < IN_MINUTES_FROM_S else f"{lag_s / 60:.0f} min"
