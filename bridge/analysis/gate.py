"""The gate: which way of grouping acts for a tenant, on the evidence of the tenant's own history.

Theory: incidents that nobody disputes are played again, with the lone alerts of the time in between, and each way of
grouping is asked to take them apart. What people confirmed counts as such an incident, and comes as it came, overlaps
included; where that is too little, isolated bursts do (`analysis.bursts`), which nothing but silence defined, and which
are made to overlap. What a linker learned for this exam, and how common it takes a label to be, comes from an earlier
slice of the history than the incidents that it is examined with.

Rules: below `LEAST_UNITS` incidents, or without a way that is better by `MARGIN`, the fallback acts. The verdict says
what was compared and how it came out; it is as old as the fit it came with, and each fit examines anew.

Decision: pairwise F1 with lone alerts among the incidents rather than ARI or the share of incidents found: a way that
draws lone alerts in must pay for it, and so must one that leaves everything alone.

Decision: of an isolated burst only what began within a surge of each other surely belongs together; what is found of
such pairs stands for what is found of all. The longer a burst lasts the more comes into it by chance: on generated
worlds half of the pairs of a burst had nothing to do with each other. Taken as the truth they were what time alone
finds, and no linker could beat it at that: one with a real F1 of 0.82 had 0.47 there, time alone with 0.68 had 0.53.

Decision: the linker that acts afterwards has learned from all of the history, the examined one from three fifths of
it. More of the same history does not make it worse, and what a tenant saw last matters most.
"""

from __future__ import annotations

import base64
import math
import statistics
from collections import Counter
from collections.abc import Hashable, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
import zstandard
from msgspec.structs import replace
from numpy.typing import NDArray

from bridge.analysis import clustering, incidents, linking
from bridge.analysis.bursts import AREA_LABEL, SILENCE_S, SURGE_S, isolated, surges_by_area
from bridge.analysis.causality import Causes, Orders, fit_causes
from bridge.analysis.clustering import Index, Newcomer
from bridge.analysis.correlation import contract
from bridge.analysis.entities import tokens_of
from bridge.analysis.families import own_family
from bridge.analysis.incidents import Group
from bridge.analysis.learning import History, Judge, Linker, Sighting, Taught, fit_linker, spoken_of
from bridge.analysis.pairs import WINDOW_S, Ints
from bridge.analysis.roots import NO_RANKER, Insight, NamedRoot, Ranker, fit_ranker
from bridge.analysis.settings import WAYS, Way
from bridge.analysis.topology import Chart, Topology
from bridge.analysis.verdicts import FALLBACK, Evidence, Undisputed, Verdict
from bridge.model import Episode, Word

LEAST_UNITS = 30
LEARNED_SHARE = 0.6  # of the incidents, the earlier ones
MOST_UNITS = 150  # examined, the newest
#: Of F1, by which another way must be better than the fallback. Drawn again and again from the same twenty incidents,
#: the difference has a standard error of 0.07, and a linker has five attempts.
MARGIN = 0.1
#: From one start to the next, as shares of the median length, in turns.
SPACINGS = (0.3, 0.9, 0.15, 0.5, 1.3, 0.4, 0.7)
LEAST_SPACING_S = 20.0
#: Confirmed incidents come as they really came, but for a longer pause after one, s.
PAUSE_S = 2 * SILENCE_S
LONE_S = 120.0  # an alert is lone if none of its cluster is nearer
#: Log odds that a link must exceed to join, of which the exam chooses one.
SHIFTS = (0.0, 0.5, 1.0, 1.5, 2.0)
#: With how many earlier alerts one is compared at most, to see what was found of a burst.
MOST_SURE = 200


class LinkAsk(Word, frozen=True, kw_only=True):
    """All that one fit of a linker may know. `fit` counts upwards per tenant, no number is used twice."""

    tenant: str
    fit: int
    sightings: tuple[Sighting, ...]
    families: dict[str, str]  # template -> family
    vectors: dict[str, bytes]  # template -> vector
    charts: tuple[Chart, ...]
    label: str  # of the topology
    taught: tuple[Taught, ...]  # what people said, oldest first
    roots: tuple[NamedRoot, ...] = ()  # that people named
    sensitivity: float
    window_s: float


class LinkFit(Word, frozen=True, kw_only=True):
    """The answer to a `LinkAsk`."""

    fit: int
    linker: Linker
    verdict: Verdict
    causes: Causes = Causes()
    ranker: Ranker = NO_RANKER


def fit(ask: LinkAsk) -> LinkFit:
    """Examine, and learn from all there is. Some ten seconds for 8,000 sightings; runs in the models' process."""
    history = _history(ask)
    verdict = examine(history, ask)
    causes = fit_causes(history)
    insight = Insight(
        topology=Topology(ask.charts, label=ask.label), orders=Orders(causes),
        family_of=lambda template: ask.families.get(template) or own_family(template),
    )  # fmt: skip
    return LinkFit(
        fit=ask.fit, linker=fit_linker(history, ask.taught), verdict=verdict, causes=causes,
        ranker=fit_ranker(ask.roots, insight),
    )  # fmt: skip


def _history(ask: LinkAsk, common_until: int | None = None) -> History:
    return History(
        ask.sightings, families=ask.families, vectors=ask.vectors, charts=ask.charts, label=ask.label,
        common_until=common_until,
    )  # fmt: skip


def linker_row(fit: LinkFit) -> bytes:
    """Return the body of the row that brings a fit."""
    packed = zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(fit))
    return msgspec.json.encode({"fit": fit.fit, "linker": base64.b64encode(packed).decode()})


def read_linker(body: bytes) -> LinkFit:
    """Return the fit of a row.

    Raises:
        ValueError, KeyError, TypeError or ZstdError: It holds none.
    """
    packed = base64.b64decode(msgspec.json.decode(body)["linker"])
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(packed), type=LinkFit)


# ---- the exam --------------------------------------------------------------------------------------------


def examine(history: History, ask: LinkAsk) -> Verdict:
    """Return which way acts."""
    of, units = _units(history, ask.taught)
    if len(units) < LEAST_UNITS:
        return Verdict(
            reason=f"{len(units)} undisputed incidents are too few to tell, {LEAST_UNITS} are needed",
            units=len(units), of=of,
        )  # fmt: skip
    cut = int(len(units) * LEARNED_SHARE)
    begins = min(units[cut])
    history = _history(ask, common_until=begins)
    linker = fit_linker(history, ask.taught, until=begins)
    confirmed = of == "confirmed incidents"
    exam = _Exam(history, units[cut:][-MOST_UNITS:], begins, ask, confirmed=confirmed)
    judge = Judge(linker)
    evidence = [
        exam.graded("entities", exam.by_entities()),
        exam.graded("bursts", exam.by_bursts()),
        *exam.by_linker(judge),
    ]
    return _decided(evidence, units=len(units), examined=exam.units, of=of)


def _decided(evidence: Sequence[Evidence], *, units: int, examined: int, of: Undisputed) -> Verdict:
    fallback = next(each for each in evidence if each.way == FALLBACK)
    best = max(evidence, key=lambda each: each.f1)  # the first of equals
    kept = tuple(max((e for e in evidence if e.way == way), key=lambda e: e.f1) for way in WAYS)
    scores = ", ".join(f"{each.way} {each.f1:.2f}" for each in kept)
    wins = best.f1 >= fallback.f1 + MARGIN
    chosen = best if wins else fallback
    made = " made to overlap" if of == "isolated bursts" else ""
    word = "is best" if wins else "stays: none is clearly better"
    return Verdict(
        way=chosen.way, shift=kept[-1].shift, units=units, examined=examined, of=of, evidence=kept,
        reason=f"{chosen.way} {word} on {examined} {of}{made} (F1: {scores})",
    )  # fmt: skip


def _units(history: History, taught: Sequence[Taught]) -> tuple[Undisputed, list[list[int]]]:
    """Return undisputed incidents as rows of the history, by their first alert."""
    said = spoken_of(taught)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, each in enumerate(history.sightings):
        if each.key in said:
            groups.setdefault(said[each.key], []).append(row)
    confirmed = sorted(rows for rows in groups.values() if len(rows) > 1)
    if len(confirmed) >= LEAST_UNITS:
        return "confirmed incidents", confirmed
    areas = [each.labels.get(AREA_LABEL, "") for each in history.sightings]
    things = [f"{each.source} {each.fingerprint}" for each in history.sightings]
    return "isolated bursts", isolated(history.at_s.tolist(), areas, things)


class _Exam:
    """Incidents that are made to overlap, with lone alerts in between."""

    def __init__(
        self, history: History, units: Sequence[Sequence[int]], begins: int, ask: LinkAsk, *, confirmed: bool
    ) -> None:
        self._history = history
        self._ask = ask
        self._confirmed = confirmed
        self.units = len(units)
        played = self._overlapping(units) + self._lone(units, begins)
        played.sort()
        self.rows = np.array([row for _, row, _ in played], np.int64)
        self.at_s = np.array([at_s for at_s, _, _ in played])
        self.truth = [unit for _, _, unit in played]

    def _overlapping(self, units: Sequence[Sequence[int]]) -> list[tuple[float, int, int]]:
        at_s = self._history.at_s
        length_s = statistics.median(float(at_s[unit[-1]] - at_s[unit[0]]) for unit in units)
        played, start_s, ended_s = [], 0.0, -math.inf
        for number, unit in enumerate(units):
            played += [(start_s + float(at_s[row] - at_s[unit[0]]), row, number) for row in unit]
            if self._confirmed and number + 1 < len(units):
                ended_s = max(ended_s, float(at_s[unit[-1]]))
                pause_s = float(at_s[units[number + 1][0]]) - ended_s
                start_s += float(at_s[units[number + 1][0]] - at_s[unit[0]]) - max(0.0, pause_s - PAUSE_S)
            else:
                start_s += max(LEAST_SPACING_S, length_s * SPACINGS[number % len(SPACINGS)])
        self.span_s = max(at for at, _, _ in played) if played else 0.0
        return played

    def _lone(self, units: Sequence[Sequence[int]], begins: int) -> list[tuple[float, int, int]]:
        """Return lone alerts of the examined slice, as dense in the exam as they were in the history."""
        at_s = self._history.at_s
        taken = {row for unit in units for row in unit}
        real_s = max(1.0, float(at_s[-1] - at_s[begins]))
        areas = [each.labels.get(AREA_LABEL, "") for each in self._history.sightings]
        last: dict[str, int] = {}
        near = set()
        for row in range(begins, len(at_s)):
            before = last.get(areas[row])
            if before is not None and at_s[row] - at_s[before] < LONE_S:
                near |= {row, before}
            last[areas[row]] = row
        lone = [row for row in range(begins, len(at_s)) if row not in taken and row not in near]
        wanted = round(len(lone) * self.span_s / real_s)
        step = max(1, len(lone) // max(1, wanted))
        chosen = lone[::step][:wanted]
        return [
            (self.span_s * (number + 0.5) / max(1, len(chosen)), row, -1 - row)
            for number, row in enumerate(chosen)
        ]

    # ---- the ways --------------------------------------------------------------------------------------

    def by_bursts(self) -> list[tuple[str, int]]:
        """Group by surges alone."""
        areas = [self._history.sightings[row].labels.get(AREA_LABEL, "") for row in self.rows.tolist()]
        return surges_by_area(self.at_s.tolist(), areas)

    def by_linker(self, judge: Judge) -> list[Evidence]:
        """Group by a linker's links, with each shift."""
        earlier, later = _within(self.at_s)
        columns = self._history.columns
        lag = self.at_s[later] - self.at_s[earlier]
        mine, theirs = self.rows[earlier], self.rows[later]
        logits = judge.logits(judge.features(columns, mine, theirs, lag))
        listed = list(zip(earlier.tolist(), later.tolist(), strict=True))
        found = []
        for shift in SHIFTS:
            links = [
                (one, other, weight - shift)
                for (one, other), weight in zip(listed, logits.tolist(), strict=True)
            ]
            found.append(self.graded("linker", contract(len(self.rows), links), shift))
        return found

    def by_entities(self) -> list[str]:
        """Group by what alerts share."""
        index, groups = Index(), dict[str, Group]()
        return [
            self._entered(index, groups, float(at_s), int(row))
            for at_s, row in zip(self.at_s, self.rows, strict=True)
        ]

    def _entered(self, index: Index, groups: dict[str, Group], at_s: float, row: int) -> str:
        seen = self._history.sightings[row]
        at = datetime.fromtimestamp(at_s, UTC)
        tokens = tokens_of(seen.labels)
        family = self._ask.families.get(seen.template) or own_family(seen.template)
        newcomer = Newcomer(
            tokens=tokens,
            origin="alerts",
            group="",
            family=linking.family_token(family),
            template=seen.template,
            at=at,
        )
        choice = clustering.choose(
            newcomer, index, groups, window_s=self._ask.window_s, sensitivity=self._ask.sensitivity,
            likeness=lambda _template, _group: None, rarity=lambda key: self._history.common.get(key, 1.0),
        )  # fmt: skip
        episode = Episode(
            tenant="", source=seen.source, fingerprint=seen.fingerprint, starts_at=at, ends_at=None, seen_at=at,
            labels=seen.labels, annotations={}, generator_url="", group_key="", severity="warning",
            template=seen.template, incident="", why="",
        )  # fmt: skip
        group = groups.get(choice.incident) if choice.incident else None
        if group is None:
            group = incidents.found(episode, "alerts", at, degraded=False)
            groups[group.head.id] = group
        group.add(episode, tokens)
        group.hold(newcomer.family, at)
        group.head = replace(group.head, active_at=at)
        index.note(group.head.id, group.head.opened_at, clustering.keys_of(newcomer))
        return group.head.id

    # ---- the mark --------------------------------------------------------------------------------------

    def graded(self, way: Way, guess: Sequence[Hashable], shift: float = 0.0) -> Evidence:
        """Return how well a grouping agrees with the truth, over pairs of alerts."""
        made, meant, both = (
            sum(size * (size - 1) // 2 for size in Counter(labels).values())
            for labels in (guess, self.truth, list(zip(guess, self.truth, strict=True)))
        )
        wrong = made - both
        recall = both / meant if self._confirmed and meant else self._found(guess)
        right = recall * meant  # as many, had no burst anything in it by chance
        precision = right / (right + wrong) if right + wrong else 1.0
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        return Evidence(
            way=way, f1=round(f1, 4), precision=round(precision, 4), recall=round(recall, 4), shift=shift
        )

    def _found(self, guess: Sequence[Hashable]) -> float:
        """Return the share of sure pairs that a grouping puts together: of one unit, and begun within a surge."""
        sure = found = 0
        since = np.searchsorted(self.at_s, self.at_s - SURGE_S, "left").tolist()
        for row, first in enumerate(since):
            for other in range(max(first, row - MOST_SURE), row):
                if self.truth[other] == self.truth[row] >= 0:
                    sure += 1
                    found += guess[other] == guess[row]
        return found / sure if sure else 1.0


def _within(at_s: NDArray[np.float64]) -> tuple[Ints, Ints]:
    """Return (earlier, later) of all pairs within the window."""
    since = np.searchsorted(at_s, at_s - WINDOW_S, "left")
    number = np.arange(len(at_s)) - since
    later = np.repeat(np.arange(len(at_s)), number)
    earlier = np.arange(len(later)) - np.repeat(np.cumsum(number) - number, number) + np.repeat(since, number)
    return earlier, later
