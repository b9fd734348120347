"""What the command line shows a person: tables, one incident whole, durations, a progress bar.

Rules: times are shown in UTC, as they stand in events and logs, so that both can be searched for them.
Control characters of labels and titles never reach the terminal. Colour and progress only on a terminal.
"""

from __future__ import annotations

import re
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import click

#: Nothing that ends sooner is worth a bar.
PROGRESS_AFTER_S = 2.0
COLOURS = {"critical": "red", "warning": "yellow", "info": "blue"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LEAST_SPAN_S, _MOST_SPAN_S = 60, 365 * 86400
_SPAN = re.compile(r"(\d{1,6})([smhdw])")

#: Quotas above which webhooks are refused.
_REFUSED_ABOVE = frozenset({"bytes_per_s", "in_flight", "storage"})


def moment(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:  # noqa: ARG001
    """Return an option's time: RFC 3339 with its zone, or a span back from now as `15m`, `4h`, `7d`."""
    if text is None:
        return None
    try:
        if back := _SPAN.fullmatch(text):
            return datetime.now(UTC) - timedelta(seconds=int(back[1]) * _UNITS[back[2]])
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except OverflowError:
        raise click.BadParameter(f"{text!r} is before the calendar begins; write a later time") from None
    except ValueError:
        pass
    raise click.BadParameter(f"{text!r} is no time; write 2026-01-31T12:00:00Z, or 4h for four hours ago")


def duration(context: click.Context, parameter: click.Parameter, text: str) -> float:  # noqa: ARG001
    """Return an option's span of time in s: `15m`, `4h`, `2d`; a minute at least, a year at most."""
    found = _SPAN.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not _LEAST_SPAN_S <= seconds <= _MOST_SPAN_S:
        raise click.BadParameter(f"{text!r} is no span from 1m to 365d; write 15m, 4h or 2d")
    return float(seconds)


class Progress:
    """A bar on stderr, once the work has lasted two seconds and only on a terminal."""

    def __init__(self, label: str, total: int = 0) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._since = time.monotonic()
        self._bar: Any = None
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def __call__(self, steps: int = 1) -> None:
        """Say that so many steps more were done."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(steps)
        elif self._shown and time.monotonic() - self._since >= PROGRESS_AFTER_S:
            self._bar = click.progressbar(
                length=max(self._total, self._done) if self._total else None,
                label=self._label, file=sys.stderr, show_pos=True, update_min_steps=1,
            )  # fmt: skip
            self._bar.render_progress()
            self._bar.update(self._done)


def plain(text: object) -> str:
    """Return text for a terminal: no control characters, one line."""
    return "".join(
        " " if each in "\t\n\r" else each
        for each in str(text)
        if each in "\t\n\r" or unicodedata.category(each) not in {"Cc", "Cf", "Cs"}
    )


def severity_of(text: str) -> str:
    """Return the severity in its colour."""
    return click.style(text, fg=COLOURS.get(text), bold=text == "critical")


def when(text: object) -> str:
    """Return an RFC 3339 time of an answer as `2026-01-31 12:00:00Z`; "-" for None."""
    if text is None:
        return "-"
    moment = text if isinstance(text, datetime) else datetime.fromisoformat(str(text))
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(seconds: float) -> str:
    """Return a duration in its two largest units: `1 d 4 h`, `3 min 20 s`."""
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def count(number: int, noun: str) -> str:
    """Return `1 alert`, `2 alerts`, `1,234 alerts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def erase_line(counts: Mapping[str, int]) -> str:
    """Return what an erase finds, or found."""
    episodes, alerts = count(counts["episodes"], "episode"), count(counts["alerts"], "alert")
    incidents = count(counts["incidents"], "incident")
    return f"{episodes} of {alerts} in {incidents}, {counts['emptied']:,} of which hold nothing else"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows in columns as wide as their widest cell; the last column is not padded."""
    texts = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(heads, *texts, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [[head.upper() for head in heads], *texts]
    ]
    return "\n".join(lines)


def incident_table(items: Sequence[Mapping[str, Any]]) -> str:
    """Return a list of incidents, one a line."""
    if not items:
        return "No incidents."
    return table(
        ("opened", "state", "severity", "anomaly", "alerts", "title", "incident"),
        [
            (
                when(item["opened_at"]), item["state"], item["severity"], _score(item["anomaly"]),
                item["episode_count"], item["title"], item["incident"],
            )
            for item in items
        ],
    )  # fmt: skip


def token_table(tokens: Sequence[Mapping[str, Any]]) -> str:
    """Return minted tokens, one a line."""
    if not tokens:
        return "No tokens."
    return table(
        ("minted", "tenant", "role", "until", "state", "by", "id"),
        [
            (
                when(each["minted_at"]), each["tenant"], each["role"], when(each["expires_at"]), each["state"],
                each["by"], each["id"],
            )
            for each in tokens
        ],
    )  # fmt: skip


def incident_page(found: Mapping[str, Any]) -> str:
    """Return one incident whole: what, since when, why, which alerts, what was said where."""
    since, until = when(found["opened_at"]), found["closed_at"]
    lasted = f"since {since}" if until is None else f"{since} to {when(until)}"
    lines = [
        click.style(plain(found["title"]), bold=True),
        f"{severity_of(found['severity'])}, {found['state']}, {lasted}",
        plain(f"anomaly {_score(found['anomaly'])}: {found['anomaly_reason']}"),
        "",
        plain(found["summary"]),
    ]
    if found["root"]:
        lines += ["", "What probably came first:"]
        lines += [f"  {each['confidence']:.2f}  {suspect_of(found, each)}" for each in found["root"][:3]]
    lines += ["", f"{count(len(found['episodes']), 'alert')}:"]
    lines += [f"  {_episode(each)}" for each in found["episodes"]]
    if found.get("deliveries"):
        lines += ["", "Deliveries:", delivery_table(found["deliveries"])]
    return "\n".join(lines)


def suspect_of(found: Mapping[str, Any], suspect: Mapping[str, Any]) -> str:
    """Return a suspect of an incident by its alert's name, with the reason."""
    who = (suspect["fingerprint"], suspect["starts_at"])
    names = [
        _name(each["labels"]) for each in found["episodes"] if (each["fingerprint"], each["starts_at"]) == who
    ]
    return plain(": ".join([*names[:1], suspect["why"]]))


def _name(labels: Mapping[str, str]) -> str:
    place = labels.get("node") or labels.get("instance") or labels.get("service")
    return labels.get("alertname", "unnamed alert") + (f" on {place}" if place else "")


def delivery_table(items: Sequence[Mapping[str, Any]]) -> str:
    """Return a list of deliveries, one a line."""
    if not items:
        return "No deliveries."
    return table(
        ("id", "destination", "state", "kind", "incident", "attempts", "next", "reason"),
        [
            (
                item["id"], item["destination"], item["state"], item["kind"], item["incident"],
                item["attempts"], "blocked" if item["blocked"] else when(item["next_at"]), item["reason"],
            )
            for item in items
        ],
    )  # fmt: skip


def no_dead_letters(waiting: int, *, at_least: bool = False) -> str:
    """Return what is said in place of a list of dead letters: whether anything waits, and how to see it."""
    if not waiting:
        return "No dead letters, and nothing waits."
    wait = "delivery waits" if waiting == 1 else "deliveries wait"
    return f"No dead letters. {waiting:,}{' or more' * at_least} {wait}; see them with --state waiting."


def quarantine_table(items: Sequence[Mapping[str, Any]]) -> str:
    """Return a list of what is in quarantine, one a line."""
    if not items:
        return "Nothing is in quarantine."
    return table(
        ("id", "received", "what", "source", "bytes", "sent again", "reason"),
        [
            (
                item["id"], when(item["received_at"]), item["what"], item["source"], item["body_bytes"],
                when(item["replayed_at"]), item["reason"],
            )
            for item in items
        ],
    )  # fmt: skip


def quarantine_page(found: Mapping[str, Any]) -> str:
    """Return one entry of the quarantine with its bytes, as far as they are text."""
    text = found.get("body")
    shown = "(not text; --raw gives its bytes)" if text is None else "\n".join(map(plain, text.splitlines()))
    return (
        f"{found['what']} {found['id']} from source {plain(found['source'])}, received"
        f" {when(found['received_at'])}\n{plain(found['reason'])}\n\n{shown}"
    )


def status_page(url: str, stats: Mapping[str, Any]) -> str:
    """Return how a sidecar is doing."""
    states, deliveries = stats["incidents"], stats["deliveries"]
    dead = deliveries.get("dead", 0)
    lines = [
        f"Tocsin at {url}",
        f"  analyst      {_analyst(stats['analyst'])}",
        f"  incidents    {states['open']} open, {states['quiet']} quiet, {states['closed']} closed",
        f"  alerts       {stats['episodes_firing']:,} firing of {stats['episodes']:,} known",
        f"  grouping     {_grouping(stats['grouping'])}",
        f"  understood   until {when(stats['processed_until'])}, {stats['inbox_backlog']:,} rows to go",
        f"  deliveries   {deliveries.get('waiting', 0):,} waiting, {dead:,} given up",
        f"  quarantine   {stats['quarantined']:,}",
        *_destinations(stats["destinations"]),
        *_quotas(stats.get("quotas", ())),
    ]
    if dead:
        lines.append("See `tocsin deliveries list` for what was given up.")
    if stats["quarantined"]:
        lines.append("See `tocsin quarantine list` for what could not be used.")
    return "\n".join(lines)


def _analyst(analyst: Mapping[str, Any]) -> str:
    parts = [
        "up" if analyst["up"] else "down: webhooks are kept and understood later",
        {"work": "models work", "missing": "models are not loaded", "off": "models are switched off"}[
            analyst["models"]
        ],
    ]
    if analyst["degraded"]:
        parts.append("incidents are decided without them")
    return ", ".join(parts)


def _grouping(told: Mapping[str, Any]) -> str:
    by = {"entities": "by what alerts share", "bursts": "by time alone", "linker": "by what was learned"}
    return plain(f"{by.get(told['way'], told['way'])}: {told['reason']}")


def _quotas(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each quota that is exceeded: one that is not is nobody's worry."""
    for each in found:
        if each["exceeded"]:
            limit = "" if each["limit"] is None else f" of {each['limit']:,.12g}"
            does = (
                "webhooks get 503" if each["name"] in _REFUSED_ABOVE else "alerts are grouped by time alone"
            )
            yield f"  quota        {plain(each['name'])}{limit} is exceeded: {does}"


def _destinations(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for those that work and one for each that does not."""
    work = [plain(each["name"]) for each in found if each["state"] == "working"]
    label = "destinations"
    if work or not found:
        yield f"  {label} {', '.join(work) or 'none that a route leads to'}" + (
            " work" if len(work) > 1 else " works" if work else ""
        )
        label = ""
    for each in found:
        if each["state"] != "working":
            verb = "refuses Tocsin" if each["state"] == "blocked" else "does not answer"
            yield f"  {label:12} {plain(each['name'])} {verb} since {when(each['since'])}: {plain(each['reason'])}"
            label = ""


def listed(names: Sequence[str]) -> str:
    """Return names apart by commas; they came from outside."""
    return ", ".join(map(plain, names))


def _episode(episode: Mapping[str, Any]) -> str:
    labels = episode["labels"]
    name = labels.get("alertname", "unnamed alert")
    rest = ", ".join(
        f"{key}={value}" for key, value in labels.items() if key not in {"alertname", "severity"}
    )
    until = when(episode["ends_at"]) if episode["ends_at"] else "fires"
    return plain(f"{when(episode['starts_at'])}  {name} {{{rest}}}  {until}  {episode['why']}")


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
