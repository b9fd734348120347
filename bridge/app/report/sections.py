"""Sections: what a report says, one function for each, as markup.

Rules: pure; figures are what was gathered or stored, nothing is estimated but the intervals that say so. What is not
known is said with its reason, and never drawn as zero. Times are UTC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from bridge.analysis.detectors.surprise import FLAGGED
from bridge.analysis.feedback import ActionState
from bridge.analysis.reports import Record
from bridge.analysis.settings import AnalysisSettings
from bridge.analysis.watching import alarm_of, said_of_chance
from bridge.app.report import drawing
from bridge.app.report.drawing import Bar, Line
from bridge.app.report.markup import aside, escaped, figure, said, table
from bridge.app.report.recorder import HOUR_S, Curve, Recorder
from bridge.app.screen import count, span, when
from bridge.app.summary import Summary
from bridge.model import SEVERITY_RANK, Incident, IncidentState
from bridge.pipeline.counts import SHARE

COLUMNS = 120  # of a plot over time
SERIES_DRAWN, SERIES_LISTED, ALARMS_LISTED, STRANGEST = 5, 50, 20, 20
DAY_S = 86_400.0
SEVERITIES = tuple(sorted(SEVERITY_RANK, key=lambda severity: -SEVERITY_RANK[severity]))
WAYS = {"entities": "by what alerts share", "bursts": "by time alone", "linker": "by what was learned"}
#: What dedup calls an alert, as people say it.
CHANGES = {
    "first_seen": "began to fire",
    "reopened": "fired again after its end",
    "resolved": "ended",
    "repeated": "told again: a resend, or the copy of another Alertmanager",
    "altered": "told again with other annotations",
    "stale": "late copies of what was over",
    "disputed": "may have been a late copy",
    "expired": "given up: no end was ever told",
    "gone": "over: no Alertmanager lists it any more",
}


class Ended(NamedTuple):
    """What the store holds of incidents at the end, those that were merged left out."""

    number: int
    by_severity: Counter[str]
    by_origin: Counter[str]
    opened: tuple[tuple[float, str], ...]  # when (epoch s), severity; by time
    verdicts: Counter[str]  # what people think of them
    strangest: tuple[Incident, ...]  # the strangest first


def ended(incidents: Iterator[Incident]) -> Ended:
    """Return what the incidents say together."""
    opened: list[tuple[float, str]] = []
    severities, origins, verdicts = Counter[str](), Counter[str](), Counter[str]()
    strangest: list[Incident] = []
    for each in incidents:
        if each.state is IncidentState.MERGED:
            continue
        opened.append((each.opened_at.timestamp(), each.severity))
        severities[each.severity] += 1
        origins[each.origin] += 1
        verdicts[each.verdict] += bool(each.verdict)
        if each.anomaly.value is not None:
            strangest.append(each)
            if len(strangest) > 2 * STRANGEST:
                strangest = _strangest(strangest)
    return Ended(
        number=len(opened), by_severity=severities, by_origin=origins, opened=tuple(sorted(opened)),
        verdicts=verdicts, strangest=tuple(_strangest(strangest)),
    )  # fmt: skip


def _strangest(incidents: Sequence[Incident]) -> list[Incident]:
    by_score = sorted(
        incidents, key=lambda each: (-(each.anomaly.value or 0.0), each.opened_at, each.tenant, each.id)
    )
    return by_score[:STRANGEST]


# ---- what came in and what went out ----------------------------------------------------------------------


def traffic(recorder: Recorder, summary: Summary, found: Ended, span_s: tuple[float, float]) -> Iterator[str]:
    """Yield what came in and what went out."""
    calls, critical = sum(recorder.called.values()), found.by_severity["critical"]
    rows: list[tuple[str, str]] = [
        ("webhooks", f"{summary.webhooks:,}"),
        ("alerts in them", f"{summary.alerts:,}"),
        ("times that an alert began to fire", f"{summary.episodes:,}"),
        ("incidents", f"{found.number:,}{_named(found.by_origin)}"),
        ("alerts in webhooks for each incident", _ratio(summary.alerts, found.number)),
        ("merged into others", f"{summary.merged:,}"),
        ("events told", f"{summary.events:,}{_named(recorder.kinds)}"),
        ("calls for critical incidents", f"{calls:,}{_named(recorder.called)}"),
        ("calls for each critical incident", _ratio(calls, critical)),
        ("could not be used", f"{summary.quarantined:,} in quarantine, {summary.bad_lines:,} bad lines"),
    ]
    yield "<h2>What came in, and what went out</h2>"
    yield table(("", "#"), rows)
    yield aside(
        "A call is the first word of a critical incident, a new kind of critical alert in it, or its return: what a"
        " route that leads to a pager would have called somebody for."
    )
    yield from _alerts(recorder, span_s)
    yield from _opened(found, span_s)
    told = [(CHANGES.get(each, each), recorder.counts[f"change:{each}"]) for each in CHANGES]
    yield "<h3>What alerts turned out to be</h3>"
    yield table(("an alert", "times#"), [(name, f"{number:,}") for name, number in told if number])


def _alerts(recorder: Recorder, span_s: tuple[float, float]) -> Iterator[str]:
    width_s, begin = drawing.stretches(*span_s, COLUMNS)
    by_place: Counter[float] = Counter()
    for hour, number in sorted(recorder.alerts.items()):
        by_place[begin(float(hour * HOUR_S))] += number
    drawn = [Bar(at_s, (("alerts", float(number)),)) for at_s, number in sorted(by_place.items())]
    name = f"Alerts in webhooks, each {_length(width_s)}"
    yield figure(drawing.bars(name, drawn, width_s, span_s), f"{name}, resends and resolves included.")


def _opened(found: Ended, span_s: tuple[float, float]) -> Iterator[str]:
    width_s, begin = drawing.stretches(*span_s, COLUMNS, DAY_S)
    by_place: dict[float, Counter[str]] = {}
    for at_s, severity in found.opened:
        by_place.setdefault(begin(at_s), Counter())[severity] += 1
    drawn = [
        Bar(at_s, tuple((severity, float(numbers[severity])) for severity in SEVERITIES))
        for at_s, numbers in sorted(by_place.items())
    ]
    first_s, last_s = begin(span_s[0]), max(span_s[1], begin(span_s[1]) + width_s)
    name = f"Incidents that began, each {_length(width_s)}"
    parts = ", ".join(f"{severity} {found.by_severity[severity]:,}" for severity in SEVERITIES)
    yield figure(
        drawing.bars(name, drawn, width_s, (first_s, last_s)),
        f"{name}: {parts} in all, the worst from below.",
    )


# ---- the way of grouping ---------------------------------------------------------------------------------


def grouping(linker: Mapping[str, Any]) -> Iterator[str]:
    """Yield which way of grouping acts for a tenant at the end, and how the ways did in its exam."""
    yield "<h3>How alerts are grouped</h3>"
    yield said(f"{WAYS.get(linker['way'], linker['way']).capitalize()}: {linker['reason']}.")
    if linker["evidence"]:
        yield table(
            ("way", "F1#", "precision#", "recall#", ""),
            [
                (
                    WAYS.get(each["way"], each["way"]), f"{each['f1']:.3f}", f"{each['precision']:.3f}",
                    f"{each['recall']:.3f}", "acts" if each["way"] == linker["way"] else "",
                )
                for each in linker["evidence"]
            ],
        )  # fmt: skip
        yield aside(
            f"Examined on {linker['examined']} of {linker['units']} {linker['of'] or 'incidents'}, laid over each other"
            f" by chance; learned from {linker['pairs']:,} pairs of {linker['sightings']:,} alerts,"
            f" {linker['labelled']:,} of them named by people."
        )
    else:
        yield aside("There was no exam: no other way was learned yet.")


# ---- what is watched -------------------------------------------------------------------------------------


def watched(
    tenant: str, models: Sequence[Record], recorder: Recorder, settings: AnalysisSettings
) -> Iterator[str]:
    """Yield the detectors in use, what they raised, and the strangest series."""
    yield "<h3>What is watched</h3>"
    series = [each for each in models if each["name"] == "series"]
    counts = next((each for each in models if each["name"] == "counts"), None)
    alarms = [alarm for owner, _, alarm in recorder.alarms if owner == tenant]
    if counts is not None:
        yield said(f"Firings of {count(counts['series'], 'thing')} are counted ({counts['model']}).")
    if series:
        yield said(f"{len(series):,} series of samples, those that were measured last.")
    else:
        yield aside("No series of samples is in this history.")
    yield aside(
        f"A value is not learned from as it is where its score reaches {FLAGGED:.2f} (1 in 10,000 by chance). It raises"
        f" an alarm where chance alone would raise at most {SHARE * settings.false_alarms_a_week:g} a week, over all"
        " series of the tenant, and where the series was not as strange more often than is accepted"
        f" ({settings.false_alarms_a_week:g} a week)."
    )
    if series:
        yield _detectors(tenant, series, recorder)
        yield from _curves(tenant, recorder)
    if alarms:
        yield f"<h3>{escaped(count(len(alarms), 'alarm'))}</h3>"
        worst = sorted(alarms, key=lambda each: (-each.surprise, each.since, each.why))
        yield table(
            ("when", "what", "how often by chance"),
            [
                (when(alarm.since), alarm.why, said_of_chance(alarm.by_chance))
                for alarm in worst[:ALARMS_LISTED]
            ],
        )
        if len(alarms) > ALARMS_LISTED:
            yield aside(f"The {ALARMS_LISTED} strangest of {len(alarms):,}, as each began.")


def _detectors(tenant: str, series: Sequence[Record], recorder: Recorder) -> str:
    def peak(name: str) -> float:
        curve = recorder.curves.get((tenant, name))
        return -1.0 if curve is None or curve.peak is None else curve.peak

    def alarms(name: str) -> int:
        return recorder.alarmed[tenant, alarm_of(name)]

    by_worth = sorted(
        series, key=lambda each: (-alarms(each["series"]), -peak(each["series"]), each["series"])
    )
    rows = [
        (
            each["series"], each["model"], each["reason"], f"{each['values']:,}", alarms(each["series"]) or "",
            f"{peak(each['series']):.2f}" if peak(each["series"]) >= 0.0 else "warms up",
        )
        for each in by_worth[:SERIES_LISTED]
    ]  # fmt: skip
    heads = ("series", "detector", "why that one", "values#", "alarms#", "highest score#")
    more = len(series) - SERIES_LISTED
    return table(heads, rows) + (aside(f"And {more:,} more.") if more > 0 else "")


def _curves(tenant: str, recorder: Recorder) -> Iterator[str]:
    """Yield the strangest series: their values, and below them their scores."""
    curves = [
        (name, curve)
        for (owner, name), curve in recorder.curves.items()
        if owner == tenant and curve.peak is not None
    ]
    curves.sort(
        key=lambda each: (-recorder.alarmed[tenant, alarm_of(each[0])], -(each[1].peak or 0.0), each[0])
    )
    for name, curve in curves[:SERIES_DRAWN]:
        began = [alarm.since.timestamp() for owner, of, alarm in recorder.alarms if (owner, of) == (
            tenant, alarm_of(name)
        )]  # fmt: skip
        yield _curve(name, curve, began)


def _curve(name: str, curve: Curve, began: Sequence[float]) -> str:
    band = curve.band()
    span_s = (band[0][0] - curve.width_s / 2.0, band[-1][0] + curve.width_s / 2.0)
    gap_s = 2.5 * curve.width_s
    middle = Line("value", [(at_s, low / 2.0 + high / 2.0) for at_s, low, high in band], gap_s)
    peak = datetime.fromtimestamp(curve.peak_s, UTC)
    values = drawing.lines(f"Values of {name}", [middle], span_s, band=band, rug=began)
    score = Line("score", curve.scores(), gap_s)
    scores = drawing.lines(f"Scores of {name}", [score], span_s, between=(0.0, 1.0), level=FLAGGED)
    return figure(
        values + scores,
        f"{name}. Above its values, least to largest of {span(curve.width_s)}, and when an alarm began; below"
        f" the highest score. The strangest value was {curve.peak_value:.4g} at {when(peak)}: {curve.peak or 0.0:.2f}.",
    )


# ---- what people said, and the strangest incidents -------------------------------------------------------


def feedback(recorder: Recorder, found: Ended) -> Iterator[str]:
    """Yield what people said."""
    yield "<h2>What people said</h2>"
    actions = list(recorder.actions.values())
    if not actions:
        yield aside("Nobody said anything in this history (`--feedback` takes what people say).")
        return
    by_kind: dict[str, Counter[ActionState]] = {}
    for each in actions:
        by_kind.setdefault(each.kind.value, Counter())[each.state] += 1
    yield table(
        ("kind", *(f"{state.value}#" for state in ActionState)),
        [(kind, *(states[state] for state in ActionState)) for kind, states in sorted(by_kind.items())],
    )
    judged = found.verdicts
    yield said(
        f"Of {count(found.number, 'incident')} {judged['useful']:,} stand as useful, {judged['false_alarm']:,} as false"
        " alarms."
    )


def strangest(found: Ended) -> Iterator[str]:
    """Yield the strangest incidents, with their reasons."""
    yield "<h2>The strangest incidents</h2>"
    if not found.strangest:
        yield aside("No incident has a score: there is too little history to say what is usual.")
        return
    yield aside(
        "A score is a rank among the tenant's own incidents: 0.9 is stranger than nine in ten of them."
    )
    verdicts = {"useful": "useful", "false_alarm": "false alarm"}
    yield table(
        ("score#", "opened", "severity", "of", "alerts#", "incident", "why", "people say"),
        [
            (
                f"{each.anomaly.value or 0.0:.2f}", when(each.opened_at), each.severity, each.origin,
                each.alerts_total, each.title, each.anomaly.reason, verdicts.get(each.verdict, ""),
            )
            for each in found.strangest
        ],
    )  # fmt: skip


def _named(numbers: Mapping[str, int]) -> str:
    told = [f"{name} {number:,}" for name, number in sorted(numbers.items()) if number]
    return f" ({', '.join(told)})" if told else ""


def _ratio(whole: int, parts: int) -> str:
    return f"{whole / parts:,.2f}" if parts else "none"


def _length(seconds: float) -> str:
    for unit, size_s in (("week", 7 * DAY_S), ("day", DAY_S), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= size_s and seconds % size_s == 0:
            number = round(seconds / size_s)
            return unit if number == 1 else f"{number} {unit}s"
    return f"{seconds:.0f} s"
