"""What each feature of a pair is worth: links learned without it, the reported part clustered once over them.

Links alone are measured, without what operation adds and forbids: no order of arrival, no two rounds, nobody called. So
the figures lie above those of the tables through the real path, and only their differences speak. A feature that is
left out is the same for all pairs, in learning and in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from unittest.mock import patch

import numpy as np

from benchmarks.parts.metrics import agreement
from benchmarks.parts.played import Vectors, progress
from benchmarks.parts.streams import Stream, first_of_each
from bridge.analysis import topology
from bridge.analysis.correlation import contract
from bridge.analysis.learning import FEATURES, History, Judge, Linker, Sighting, Taught, fit_linker
from bridge.analysis.text import template_of
from bridge.analysis.verdicts import UNCONFIRMED_SHIFT
from bridge.model import Alert

LABELLED = timedelta(days=3)
LABELLED_SHIFT = 0.5
#: What is left out together, by the name that the table gives it.
PARTS: dict[str, tuple[str, ...]] = {
    "lag": ("lag_s", "lift at this lag"),
    "services (topology)": ("service", "related"),
    "machine": ("host",),
    "place": ("area",),
    "kind": ("kind",),
    "texts": ("text",),
    "shared labels": ("shared",),
    "lift": ("lift", "lift at this lag", "lift the other way", "seen"),
    "company": ("company of the earlier", "company of the later"),
    "lift and company": (
        "lift", "lift at this lag", "lift the other way", "seen", "company of the earlier", "company of the later",
    ),
}  # fmt: skip


class World:
    """One stream as a history, with what an operator of the last days before the reported part would confirm."""

    def __init__(self, stream: Stream, chart: bytes | None, vectors: Vectors) -> None:
        items = first_of_each(stream.firings)
        texts = {}
        sightings = []
        for item in items:
            template = template_of(Alert(
                tenant="", source="", fingerprint="", labels=item.labels, annotations=item.annotations, firing=True,
                starts_at=item.starts_at, ends_at=None,
            ))  # fmt: skip
            texts[template.id] = template.text
            sightings.append(Sighting(item.starts_at.timestamp(), *item.key, template.id, item.labels))
        known = dict(zip(texts, vectors(list(texts.values())), strict=True))
        charts = () if chart is None else (topology.read(chart),)
        self.history = History(sightings, families={}, vectors=known, charts=charts, label="service")
        by_key = {item.key: item for item in items}
        listed = [by_key[each.key] for each in self.history.sightings]
        began: dict[str, float] = {}
        for item in listed:
            began.setdefault(item.incident, item.starts_at.timestamp())
        split_s = stream.split_at.timestamp()
        self.until = int(np.searchsorted(self.history.at_s, split_s))
        self.reported = np.array([began[item.incident] >= split_s for item in listed])
        self.truth = [
            item.incident for item, is_reported in zip(listed, self.reported, strict=True) if is_reported
        ]
        since_s = split_s - LABELLED.total_seconds()
        groups: dict[str, list] = {}
        for item in listed[: self.until]:
            if since_s <= began[item.incident] < split_s:
                groups.setdefault(item.incident, []).append(item.key)
        self.taught = [Taught(incident=name, groups=(tuple(keys),)) for name, keys in groups.items()]

    def f1(self, linker: Linker, shift: float) -> float:
        """Cluster the reported part once and return the pairwise F1."""
        earlier, later, _ = self.history.near()
        mine = self.reported[earlier] & self.reported[later]
        earlier, later = earlier[mine], later[mine]
        judge = Judge(linker)
        weights = judge.logits(judge.features(self.history.columns, earlier, later)) - shift
        place = np.cumsum(self.reported) - 1
        links = list(zip(place[earlier].tolist(), place[later].tolist(), weights.tolist(), strict=True))
        return agreement(self.truth, contract(len(self.truth), links)).f1


@contextmanager
def left_out(names: Sequence[str]) -> Iterator[None]:
    """Let features be the same for all pairs."""
    columns = [FEATURES.index(name) for name in names]
    whole = Judge.features

    def features(self: Judge, *given, **named) -> np.ndarray:
        rows = whole(self, *given, **named)
        rows[:, columns] = 0.0
        return rows

    with patch.object(Judge, "features", features):
        yield


def show(worlds: Sequence[World]) -> None:
    """Print the table: F1 without labels and with three days of them, the mean of the worlds."""
    print(f"\nWhat each feature is worth: F1 of links alone, mean of {len(worlds)} worlds")
    print(f"{'':24} {'no labels':>10} {'3 days':>10}")
    for name, features in {
        "all features": (),
        **{f"without {name}": each for name, each in PARTS.items()},
    }.items():
        progress(name)
        with left_out(features):
            found = []
            for world in worlds:
                plain = fit_linker(world.history, until=world.until)
                told = fit_linker(world.history, world.taught, until=world.until)
                found.append((world.f1(plain, UNCONFIRMED_SHIFT), world.f1(told, LABELLED_SHIFT)))
        means = [sum(each) / len(each) for each in zip(*found, strict=True)]
        progress("")
        print(f"{name:24} {means[0]:>10.3f} {means[1]:>10.3f}", flush=True)
