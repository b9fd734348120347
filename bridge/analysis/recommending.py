"""Preventive recommendations: what to do before the incident that is forecast, by what was done in ones like it.

Theory: case-based reasoning (Aamodt and Plaza, AI Communications 1994). Past incidents are compared with what is
forecast and what fires now by the kinds and things that they name, the rare ones counting more; the most alike lend
what people wrote, how they ended and which runbooks their alerts linked. Learned order adds which of the alerts that
fire now others followed.

Rules: nothing is generated: what is recommended was written by a person, linked by a rule or counted in the history,
and each recommendation carries that as evidence. No right to publish the forecast, no recommendation: there would be
nothing to prevent. What people called a false alarm teaches nothing. Never an order to a machine: a person reads it.
The same input in any order gives the same recommendations. Cost: about 1 ms for 500 past incidents.

Decision: likeness by names rather than by embeddings. "Same rule on the same service" is what an operator can check.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from bridge.model import Advice, CausalWord, Forecast, Word

MOST = 5
LEAST_LIKENESS = 0.2
LIKE_AT_MOST = 8  # past incidents that are looked at
EVIDENCE_AT_MOST = 3  # of one recommendation
TEXT_CHARS = 200  # of a note
SOON_S = 1800.0  # a note after which the incident ended that soon is likelier to have helped
FADE_S = 180 * 86_400.0  # what is that old counts half
#: How much each kind of recommendation weighs against the others.
DONE_WEIGHT, RUNBOOK_WEIGHT, LINKED_NOW_WEIGHT, ORDER_WEIGHT, CAUSE_WEIGHT = 1.0, 0.6, 0.5, 0.5, 0.8
NOT_FOLLOWED_WEIGHT = 0.5  # a note after which the incident went on


class Sign(Word, frozen=True, order=True):
    """A kind of alert about a thing that fires now."""

    kind: str
    entity: str = ""
    runbook: str = ""  # annotation `runbook_url`; "": none


class Note(Word, frozen=True, order=True):
    """What a person wrote in an incident."""

    at: datetime
    text: str


class Past(Word, frozen=True, kw_only=True):
    """An incident that is over."""

    incident: str
    opened_at: datetime
    closed_at: datetime
    kinds: frozenset[str]
    entities: frozenset[str]
    notes: tuple[Note, ...] = ()
    runbooks: frozenset[str] = frozenset()
    false_alarm: bool = False


class Order(Word, frozen=True, order=True):
    """One kind comes before another, as learned or as people said."""

    earlier: str
    later: str
    word: CausalWord
    why: str


def recommend(
    forecast: Forecast,
    signs: Iterable[Sign],
    pasts: Iterable[Past],
    orders: Iterable[Order] = (),
    *,
    now: datetime,
) -> tuple[Advice, ...]:
    """Return at most `MOST` recommendations, the best first.

    Args:
        forecast: Of one target.
        signs: What fires now.
        pasts: Incidents that are over.
        orders: What precedes what.
        now: The time.
    """
    if not forecast.published:
        return ()
    fires = sorted(set(signs))
    like = _like(forecast, fires, pasts, now)
    found = [*_done(like), *_runbooks(fires, like), *_in_order(fires, orders)]
    reasons = forecast.reasons[:1]
    found.sort(key=lambda each: (-round(each.score, 9), each.about, each.text))
    return tuple(_with_reason(each, reasons) for each in found[:MOST])


def _with_reason(advice: Advice, reasons: tuple[str, ...]) -> Advice:
    return Advice(
        about=advice.about, text=advice.text, score=advice.score, link=advice.link, incidents=advice.incidents,
        evidence=(*advice.evidence[:EVIDENCE_AT_MOST], *(f"forecast: {each}" for each in reasons)),
    )  # fmt: skip


# ---- what was alike --------------------------------------------------------------------------------------


class _Like(Word, frozen=True):
    """A past incident, how alike it is (0..1) after fading, and what it shares."""

    past: Past
    likeness: float
    shared: tuple[str, ...]


def _like(forecast: Forecast, signs: Sequence[Sign], pasts: Iterable[Past], now: datetime) -> list[_Like]:
    known = sorted(
        (each for each in pasts if not each.false_alarm and each.closed_at <= now),
        key=lambda each: (each.opened_at, each.incident),
    )
    named = {("entity", each.entity) for each in signs if each.entity} | {
        ("kind", each.kind) for each in signs
    }
    if forecast.aim == "service":
        named.add(("entity", forecast.name))
    weights = _rarity(known)
    found = []
    for past in known:
        theirs = _names(past)
        shared = named & theirs
        weight = sum(weights.get(each, 1.0) for each in sorted(shared))
        every = sum(weights.get(each, 1.0) for each in sorted(named | theirs))
        likeness = weight / every if every else 0.0
        if likeness >= LEAST_LIKENESS:
            age_s = (now - past.closed_at).total_seconds()
            words = tuple(name for _, name in sorted(shared, reverse=True))
            found.append(_Like(past, likeness * math.exp2(-age_s / FADE_S), words))
    found.sort(key=lambda each: (-each.likeness, each.past.incident))
    return found[:LIKE_AT_MOST]


def _names(past: Past) -> set[tuple[str, str]]:
    return {("kind", each) for each in past.kinds} | {("entity", each) for each in past.entities}


def _rarity(pasts: Sequence[Past]) -> Mapping[tuple[str, str], float]:
    """Return how much a name counts: 1 in all of the incidents, more in few."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for past in pasts:
        for name in _names(past):
            seen[name] += 1
    return {name: 1.0 + math.log((1 + len(pasts)) / (1 + number)) for name, number in seen.items()}


# ---- what to do ------------------------------------------------------------------------------------------


def _done(like: Sequence[_Like]) -> Iterator[Advice]:
    """Yield what people wrote in incidents alike, the same words once."""
    said: dict[str, list[tuple[float, str, _Like, Note]]] = defaultdict(list)
    for each in like:
        for note in each.past.notes:
            words = " ".join(note.text.split())
            if words:
                took_s = (each.past.closed_at - note.at).total_seconds()
                weight = each.likeness * (1.0 if 0.0 <= took_s <= SOON_S else NOT_FOLLOWED_WEIGHT)
                said[words.casefold()].append((weight, words, each, note))
    for cases in said.values():
        cases.sort(key=lambda case: (-case[0], case[2].past.incident, case[3].at))
        incidents = tuple(dict.fromkeys(case[2].past.incident for case in cases))
        yield Advice(
            about="done", text=f'Consider what helped before: "{cases[0][1][:TEXT_CHARS]}"',
            score=DONE_WEIGHT * _together(case[0] for case in cases), incidents=incidents,
            evidence=tuple(_case(case[2], case[3]) for case in cases[:EVIDENCE_AT_MOST]),
        )  # fmt: skip


def _case(like: _Like, note: Note) -> str:
    took_s = (like.past.closed_at - note.at).total_seconds()
    ended = f"closed {_minutes(took_s)} after it was noted" if took_s >= 0.0 else "noted after it had closed"
    return f"{like.past.incident} of {like.past.opened_at:%Y-%m-%d}, alike in {_list(like.shared)}: {ended}"


def _runbooks(signs: Sequence[Sign], like: Sequence[_Like]) -> Iterator[Advice]:
    """Yield the runbooks that alerts link, those that fire now and those of incidents alike."""
    scores: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for sign in signs:
        if is_link(sign.runbook):
            scores[sign.runbook].append((LINKED_NOW_WEIGHT, f"{sign.kind} fires now and links it", ""))
    for each in like:
        for link in sorted(filter(is_link, each.past.runbooks)):
            why = f"linked in {each.past.incident}, alike in {_list(each.shared)}"
            scores[link].append((RUNBOOK_WEIGHT * each.likeness, why, each.past.incident))
    for link, cases in scores.items():
        cases.sort(key=lambda case: (-case[0], case[1]))
        yield Advice(
            about="runbook", text=f"Have the runbook at hand: {link}", link=link,
            score=_together(case[0] for case in cases),
            evidence=tuple(case[1] for case in cases[:EVIDENCE_AT_MOST]),
            incidents=tuple(dict.fromkeys(case[2] for case in cases if case[2])),
        )  # fmt: skip


def _in_order(signs: Sequence[Sign], orders: Iterable[Order]) -> Iterator[Advice]:
    """Yield which of the alerts that fire others follow that do not fire yet."""
    kinds = {each.kind for each in signs}
    ahead: dict[str, list[Order]] = defaultdict(list)
    for order in sorted(set(orders)):
        if order.earlier in kinds and order.later not in kinds:
            ahead[order.earlier].append(order)
    for earlier, following in ahead.items():
        following.sort(key=lambda each: (each.word != "causes", each))
        word = "causes" if following[0].word == "causes" else "precedes"
        later = _list(tuple(dict.fromkeys(each.later for each in following)))
        weight = CAUSE_WEIGHT if word == "causes" else ORDER_WEIGHT
        yield Advice(
            about="order", text=f"Look at {earlier} first: it {word} {later}, which does not fire yet",
            score=_together(weight for _ in following),
            evidence=tuple(
                f"{each.earlier} {each.word} {each.later}: {each.why}" for each in following[:EVIDENCE_AT_MOST]
            ),
        )  # fmt: skip


def is_link(text: str) -> bool:
    """Return whether a text is a link that a person may follow: http or https, with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False


def _together(weights: Iterable[float]) -> float:
    """Return what several cases weigh: more than the best of them, less than their sum; below 1."""
    left = 1.0
    for weight in weights:
        left *= 1.0 - min(weight, 0.99)
    return 1.0 - left


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{round(minutes / 60)} h"  # noqa: PLR2004
