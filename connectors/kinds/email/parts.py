"""What a mail says, as text and as HTML: the same lines in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from bridge.model import Event, EventEpisode, Severity
from connectors.common import OVER, clip, one_line
from connectors.wording import AHEAD, Link, alert_text, happened, links, suspect, together

SUMMARY_CHARACTERS, LINE_CHARACTERS, LINK_CHARACTERS, NOTE_CHARACTERS = 4000, 300, 1500, 2000
BARE_CHARACTERS = 100  # of each text where all else has been left out already
COLOURS: dict[Severity, str] = {"critical": "#b3261e", "warning": "#b26a00", "info": "#1a5fb4"}
OVER_COLOUR = "#2e7d32"


class Said(NamedTuple):
    """One paragraph: a heading ("" for none), lines, and whether they are a list."""

    heading: str
    lines: tuple[str, ...]
    is_list: bool = False


def title_of(event: Event) -> str:
    """Return the incident's title on one line."""
    return one_line(event.incident.title[:500]).strip() or f"Incident {event.incident.id}"


class Letter(NamedTuple):
    """What a mail says, before it is written down as text and as HTML."""

    event: Event
    first: tuple[str, str]  # what happened, and to what
    paragraphs: tuple[Said, ...]
    links: tuple[Link, ...]


def letter(event: Event, listed: int) -> Letter:
    """Return what there is to say; `listed` is how many alerts it lists, 0 for title and counts alone."""
    title = title_of(event)
    return Letter(
        event,
        (happened(event), title if listed else clip(title, BARE_CHARACTERS)),
        tuple(_paragraphs(event, listed)),
        tuple(each for each in links(event) if len(each.url) <= LINK_CHARACTERS) if listed else (),
    )


def text(said: Letter) -> str:
    """Return a letter as plain text."""
    paragraphs = [": ".join(said.first)]
    for each in said.paragraphs:
        lines = [f"* {line}" for line in each.lines] if each.is_list else list(each.lines)
        paragraphs.append("\n".join([f"{each.heading}:", *lines] if each.heading else lines))
    if said.links:
        paragraphs.append("\n".join(f"{each.text}: {each.url}" for each in said.links))
    return "\n\n".join([*paragraphs, _ids(said.event)]) + "\n"


def html(said: Letter) -> str:
    """Return the same as HTML, in which nothing of an event has a meaning."""
    view, (what, title) = said.event.incident, said.first
    colour = OVER_COLOUR if view.state in OVER else COLOURS[view.severity]
    head = f'<p style="border-left:4px solid {colour};padding-left:8px"><b>{escape(what)}</b>'
    made = ['<!DOCTYPE html><html><body style="font-family:sans-serif">', f"{head}: {escape(title)}</p>"]
    made += map(_html, said.paragraphs)
    if said.links:
        anchors = (f'<a href="{escape(each.url)}">{escape(each.text)}</a>' for each in said.links)
        made.append(f"<p>{' | '.join(anchors)}</p>")
    made.append(f'<p style="color:#666">{escape(_ids(said.event))}</p></body></html>')
    return "\n".join(made) + "\n"


def _html(said: Said) -> str:
    heading = f"<b>{escape(said.heading)}</b>" if said.heading else ""
    if said.is_list:
        items = "\n".join(f"<li>{escape(line)}</li>" for line in said.lines)
        return f"<p>{heading}</p>\n<ul>\n{items}\n</ul>"
    lines = [*([heading] if heading else []), *map(escape, said.lines)]
    return "<p>" + "<br>\n".join(lines) + "</p>"


def _paragraphs(event: Event, listed: int) -> Iterator[Said]:
    view = event.incident
    yield Said("", tuple(_facts(event)))
    if not listed:
        return
    if event.note:
        author = f" by {one_line(event.author)}" if event.author else ""
        yield Said(clip(f"Note{author}", LINE_CHARACTERS), _lines(event.note, NOTE_CHARACTERS))
    if view.summary.strip():
        yield Said("", _lines(view.summary, SUMMARY_CHARACTERS))
    if view.episodes:
        shown = (clip(one_line(_alert(each)), LINE_CHARACTERS) for each in view.episodes[:listed])
        more = len(view.episodes[listed:]) + view.truncated
        yield Said("Alerts", (*shown, *((f"and {more} more",) if more > 0 else ())), is_list=True)
    for heading, why in (("First suspect", suspect(event)), ("One incident because", together(event))):
        if why:
            yield Said(heading, (clip(one_line(why[: 4 * LINE_CHARACTERS]), LINE_CHARACTERS),))


def _alert(episode: EventEpisode) -> str:
    ended = "" if episode.ends_at is None else "ended, "
    # Cut before it is looked at character by character: an annotation may have a megabyte.
    return f"{ended}{episode.severity}: {alert_text(episode)[: 4 * LINE_CHARACTERS]}"


def _lines(words: str, characters: int) -> tuple[str, ...]:
    return tuple(one_line(line) for line in clip(words, characters).splitlines())


def _facts(event: Event) -> Iterator[str]:
    view = event.incident
    if event.kind in AHEAD:
        yield f"{view.severity}, of {_date(event)}"
        return
    yield f"{view.severity}, {view.state.value}, {view.alerts_firing} of {view.alerts_total} alerts firing"
    told = f"since {_date(event)}"
    if view.anomaly is not None:
        told += f", anomaly {view.anomaly:.2f}"
    yield told + (", decided without models" if event.degraded else "")


def _date(event: Event) -> str:
    return event.incident.opened_at.strftime("%Y-%m-%d %H:%M UTC")


def _ids(event: Event) -> str:
    view = event.incident
    return f"Incident {clip(one_line(view.id), BARE_CHARACTERS)}, event {event.event_id}"
