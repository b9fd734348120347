"""What people read about an incident, in words that every destination shares.

Rules: pure; nothing is escaped or cut here, since that is each destination's own; never a bare fingerprint, which
no person can look up. Texts come from senders and may hold anything, line ends and control characters included.

Decision: links lead to the runbook and to the expression of the worst alert, because that is where somebody who
was woken goes next. The incident in Tocsin's API is JSON, so it is linked only where there is nothing better.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec.structs import replace

from bridge.model import FOUNDED, Event, EventEpisode, EventKind, RootSuspect, Severity, told_instead
from connectors.common import OVER, clip, rfc3339
from connectors.templates import LABEL, parts

#: The label that tells a person where an alert is, the most precise first.
PLACES = ("instance", "pod", "node", "host", "hostname", "device", "service", "job", "namespace", "cluster")
#: Of those, what names a machine.
HOSTS = ("instance", "node", "host", "hostname")
#: The annotation in which mixins and most rules put what to do.
RUNBOOK = "runbook_url"
#: Where it leads in Tocsin, where that is no incident.
_PAGES = {EventKind.FORECAST: "Forecasts", EventKind.RECOMMENDATION: "Recommendations"}
#: How bad it is, as a sign that shows from afar.
MARKS: dict[Severity, str] = {"critical": "🔴", "warning": "🟠", "info": "🔵"}
#: About what has not begun: there are no alerts to count.
AHEAD = frozenset({EventKind.FORECAST, EventKind.RECOMMENDATION})
MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0


#: The longest that a filled template becomes, whatever its fields hold.
TITLE_CHARACTERS, TEXT_CHARACTERS = 1000, 16_384


class Link(NamedTuple):
    """Where to go next."""

    text: str
    url: str


def mark(event: Event) -> str:
    """Return the sign that shows from afar how an incident is."""
    return "✅" if event.incident.state in OVER else MARKS[event.incident.severity]


def alert_mark(episode: EventEpisode) -> str:
    """Return the sign before an alert in a list."""
    return MARKS[episode.severity] if episode.ends_at is None else "◦"


def standing(event: Event) -> list[str]:
    """Return how an incident is, in a few words each: severity, state, how many alerts fire."""
    view = event.incident
    if event.kind in AHEAD:
        return [view.severity, event.kind.value]
    return [view.severity, view.state.value, f"{view.alerts_firing} of {view.alerts_total} alerts firing"]


def happened(event: Event) -> str:
    """Return what happened to an incident, in a few words: "Escalated", "Closed after 25 min"."""
    view = event.incident
    if event.kind is EventKind.MERGED and view.merged_into:
        return f"Merged into incident {view.merged_into}"
    if event.kind is EventKind.CLOSED and view.closed_at is not None:
        expired = ", the resolve of some alerts never came" if view.expired else ""
        return f"Closed after {lasted(view.closed_at - view.opened_at)}{expired}"
    return "Still open" if event.kind is EventKind.REMINDER else event.kind.value.capitalize()


def name_of(episode: EventEpisode) -> str:
    """Return the alert's name; label sets without one are legal in Alertmanager."""
    return episode.labels.get("alertname") or "unnamed alert"


def place_of(labels: Mapping[str, str]) -> str:
    """Return the most precise place that labels name; "" where they name none."""
    return next((labels[place] for place in PLACES if labels.get(place)), "")


def host_of(labels: Mapping[str, str]) -> str:
    """Return the machine that labels name, without a port; "" where they name none."""
    host = next((labels[name] for name in HOSTS if labels.get(name)), "")
    if "://" in host:  # a probe's target
        return urlsplit(host).hostname or ""
    bare, colon, port = host.rpartition(":")
    # An IPv6 address has colons of its own; only in brackets can a port follow it.
    if colon and port.isdigit() and (bare.endswith("]") or ":" not in bare):
        host = bare
    return host.strip("[]")


def alert_line(episode: EventEpisode) -> str:
    """Return an alert in a few words: its name and where it is."""
    place = place_of(episode.labels)
    return f"{name_of(episode)} on {place}" if place else name_of(episode)


def alert_text(episode: EventEpisode) -> str:
    """Return an alert as it stands in a list: name, place, its own summary, how it behaves."""
    summary = episode.annotations.get("summary") or episode.annotations.get("description") or ""
    text = f"{alert_line(episode)}: {summary}" if summary.strip() else alert_line(episode)
    behaviour = ", ".join(_behaviour(episode))
    return f"{text} ({behaviour})" if behaviour else text


def _behaviour(episode: EventEpisode) -> Iterator[str]:
    if episode.times > 1:
        yield f"fired {episode.times} times"
    if episode.expired:
        yield "its resolve never came"
    if episode.disputed:
        yield "perhaps a late copy"


def worst(event: Event) -> EventEpisode | None:
    """Return the worst alert, one that still fires before one that has ended; None where none is listed."""
    listed = event.incident.episodes
    return next((each for each in listed if each.ends_at is None), listed[0] if listed else None)


def host(event: Event) -> str:
    """Return the machine that it is about: the one all alerts share, else the worst alert's; "" for none."""
    found = worst(event)
    return host_of(event.incident.common_labels) or (host_of(found.labels) if found else "")


def label(event: Event, name: str) -> str:
    """Return a label that all alerts share, else the worst alert's; "" for none."""
    found = worst(event)
    return event.incident.common_labels.get(name) or (found.labels.get(name, "") if found else "")


def suspect(event: Event) -> str:
    """Return what probably came first, by alert name and place, with how sure that is and why; "" for nothing.

    An incident of one alert has nothing to suspect.
    """
    view = event.incident
    if not view.root or view.alerts_total <= 1:
        return ""
    first = view.root[0]
    return f"{_suspected(event, first)} ({first.confidence:.0%}): {first.why}"


def _suspected(event: Event, suspected: RootSuspect) -> str:
    alike = [each for each in event.incident.episodes if each.fingerprint == suspected.fingerprint]
    same = [each for each in alike if each.starts_at == suspected.starts_at]
    found = next(iter(same or alike), None)
    return alert_line(found) if found else "an alert that is not listed"


def together(event: Event) -> str:
    """Return in one line why it is one incident: how the worst alert that joined did; "" for a single alert.

    The alert that began first may have been heard later, and have joined.
    """
    episodes = event.incident.episodes
    if len(episodes) < 2:  # noqa: PLR2004
        return ""
    first = min(episodes, key=lambda each: each.starts_at)
    others = [each for each in episodes if each is not first]
    return next((f"{alert_line(each)}: {why}" for each in (*others, first) if (why := _joined(each))), "")


def _joined(episode: EventEpisode) -> str:
    """Return why an alert joined; of one that an incident began with, why it came from there."""
    return episode.why.partition("; ")[2] if episode.why.startswith(FOUNDED) else episode.why


def links(event: Event) -> list[Link]:
    """Return where to go next, at most two; the incident itself only where there is nothing else."""
    found = worst(event)
    candidates = [] if found is None else [
        Link("Runbook", found.annotations.get(RUNBOOK, "").strip()),
        Link("Source", found.generator_url.strip()),
    ]  # fmt: skip
    good = [each for each in candidates if is_web(each.url)]
    own = Link(f"{_PAGES.get(event.kind, 'Incident')} in Tocsin", event.incident.url)
    return good or ([own] if is_web(own.url) else [])


def is_web(url: str) -> bool:
    """Return whether a text is a web address that any format can carry as it is."""
    return url.startswith(("http://", "https://")) and url.isprintable() and not set(url) & set(' <>|"')


def lasted(time: timedelta) -> str:
    """Return a length of time as people say it: "40 s", "25 min", "3 h 20 min", "2 d 4 h"."""
    seconds = max(time.total_seconds(), 0.0)
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < HOUR_S:
        return f"{seconds // MINUTE_S:.0f} min"
    large_s, small_s, large, small = (
        (HOUR_S, MINUTE_S, "h", "min") if seconds < DAY_S else (DAY_S, HOUR_S, "d", "h")
    )
    rest = seconds % large_s // small_s
    return f"{seconds // large_s:.0f} {large}" + (f" {rest:.0f} {small}" if rest else "")


# ---- words of one's own ----------------------------------------------------------------------------------


def worded(event: Event, title: str | None, text: str | None) -> Event:
    """Return the event with its title and summary told by templates (`templates.Template`); None: as they are.

    What a template leaves empty, or only white space, stays as it was: a message has a title.
    """
    view = event.incident
    named = "" if title is None else filled(title, event, TITLE_CHARACTERS)
    if isinstance(event.instead_of, str) and named.strip() and view.title not in named:
        named = clip(told_instead(named, event.instead_of), TITLE_CHARACTERS)  # the mark is not left out
    told = "" if text is None else filled(text, event, TEXT_CHARACTERS)
    if not named.strip() and not told.strip():
        return event
    view = replace(
        view, title=named if named.strip() else view.title, summary=told if told.strip() else view.summary
    )
    return replace(event, incident=view)


def filled(template: str, event: Event, characters: int) -> str:
    """Return a template with what the fields hold, at most so many characters, nothing escaped yet."""
    told: list[str] = []
    left = characters + 1  # one more than there is room for, so that the cut shows
    for part in parts(template):
        piece = (_value(part.text, event) if part.is_field else part.text)[:left]
        told.append(piece)
        left -= len(piece)
        if left <= 0:
            break
    return clip("".join(told), characters)


def _value(field: str, event: Event) -> str:
    name = field.removeprefix(LABEL)
    return label(event, name) if name != field else _VALUES[field](event)


def _place(event: Event) -> str:
    found = worst(event)
    return place_of(event.incident.common_labels) or (place_of(found.labels) if found else "")


def _named(event: Event) -> str:
    found = worst(event)
    return name_of(found) if found else ""


def _runbook(event: Event) -> str:
    found = worst(event)
    url = found.annotations.get(RUNBOOK, "").strip() if found else ""
    return url if is_web(url) else ""


def _source(event: Event) -> str:
    found = worst(event)
    url = found.generator_url.strip() if found else ""
    return url if is_web(url) else ""


def _lasted(event: Event) -> str:
    return lasted((event.incident.closed_at or event.at) - event.incident.opened_at)


#: Of each of `templates.FIELDS`.
_VALUES: dict[str, Callable[[Event], str]] = {
    "alert": _named,
    "alerts": lambda event: str(event.incident.alerts_total),
    "anomaly": lambda event: "unknown" if event.incident.anomaly is None else f"{event.incident.anomaly:.2f}",
    "author": lambda event: event.author if isinstance(event.author, str) else "",
    "change": lambda event: event.kind.value,
    "closed_at": lambda event: rfc3339(event.incident.closed_at) if event.incident.closed_at else "",
    "cluster": lambda event: label(event, "cluster"),
    "firing": lambda event: str(event.incident.alerts_firing),
    "host": host,
    "id": lambda event: event.incident.id,
    "lasted": _lasted,
    "namespace": lambda event: label(event, "namespace"),
    "note": lambda event: event.note if isinstance(event.note, str) else "",
    "opened_at": lambda event: rfc3339(event.incident.opened_at),
    "origin": lambda event: event.incident.origin,
    "place": _place,
    "runbook": _runbook,
    "service": lambda event: label(event, "service"),
    "severity": lambda event: event.incident.severity,
    "source": _source,
    "state": lambda event: event.incident.state.value,
    "summary": lambda event: event.incident.summary,
    "suspect": suspect,
    "tenant": lambda event: event.tenant,
    "title": lambda event: event.incident.title,
    "together": together,
    "url": lambda event: event.incident.url,
}
