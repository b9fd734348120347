"""An operator who knows the truth, and what such a person would say to Tocsin: lines as `replay --feedback` reads them.

The operator looks every ten minutes, on the days that are asked for, at what has ended since. An incident that Tocsin
got wrong is put right with as few lines as it takes; one it got right is called useful. That is more diligence than
anybody has: the rows with feedback say what can be learned from a day of it, not what will be.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count, takewhile

from benchmarks.parts.played import OPERATOR_EVERY_S, Operator, Played
from benchmarks.parts.streams import SOURCE, Firing, Key, Stream

Line = dict[str, object]
DAY = timedelta(days=1)


def operator(stream: Stream, days: float) -> Operator:
    """Return the operator of the last `days` before the reported part."""
    incidents: dict[str, list[Firing]] = {}
    for firing in stream.firings:
        incidents.setdefault(firing.incident, []).append(firing)
    ended = sorted((max(each.ends_at for each in firings), name) for name, firings in incidents.items())
    truth = {firing.key: firing.incident for firing in stream.firings}
    from_, until = stream.split_at - days * DAY, stream.split_at

    numbers = count(1)

    def say(at: datetime, played: Played) -> Sequence[bytes]:
        if not from_ <= at < until:
            return ()
        since = at - timedelta(seconds=OPERATOR_EVERY_S)
        over = [name for end, name in ended if since < end <= at]
        members = _members(played, at)
        lines = feedback_lines(
            {name: [firing.key for firing in incidents[name] if firing.key in played.home] for name in over},
            incident_of=played.incident_of, members_of=lambda one: members.get(one, ()), truth=truth, at=at,
        )  # fmt: skip
        return [body_of(line, next(numbers)) for line in lines]

    return say


def _members(played: Played, at: datetime) -> dict[str, list[Key]]:
    """Return what stands in each incident, of the last day: nobody corrects what is older."""
    found: dict[str, list[Key]] = {}
    for key in takewhile(
        lambda key: key[2] > at - DAY, reversed(played.home)
    ):  # in the order they were heard
        found.setdefault(played.incident_of(key), []).append(key)
    return found


def feedback_lines(
    true_incidents: Mapping[str, Sequence[Key]], *, incident_of: Callable[[Key], str],
    members_of: Callable[[str], Iterable[Key]], truth: Mapping[Key, str], at: datetime,
) -> list[Line]:  # fmt: skip
    """Return the lines that put these true incidents right, or praise those that are.

    The incident that has most of a true one becomes its home: what is foreign there is split off, one line per true
    incident; an incident that holds nothing else is merged into it, the episodes of any other are moved.

    Args:
        true_incidents: Which to look at, each with its episodes.
        incident_of: Where an episode stands now.
        members_of: What stands in an incident now.
        truth: To which true incident an episode belongs.
        at: When the lines are said.
    """
    lines: list[Line] = []
    place: dict[Key, str] = {}  # where the lines so far have put an episode

    def now_in(key: Key) -> str:
        return place.get(key) or incident_of(key)

    for name, keys in true_incidents.items():
        if not keys:
            continue
        homes = Counter(now_in(key) for key in keys)
        home = min(homes, key=lambda one: (-homes[one], one))
        before = len(lines)
        anchor = min(key for key in keys if now_in(key) == home)
        foreign: dict[str, list[Key]] = {}
        for key in members_of(home):
            if now_in(key) == home and truth.get(key, name) != name:
                foreign.setdefault(truth[key], []).append(key)
        for other, strangers in sorted(foreign.items()):
            lines.append(_line(at, "split", sorted(strangers)))
            place.update(dict.fromkeys(strangers, f"split off: {other} from {home}"))
        for one in sorted(homes):
            if one == home:
                continue
            mine = sorted(key for key in keys if now_in(key) == one)
            alone = all(truth.get(key, name) == name for key in members_of(one) if now_in(key) == one)
            if alone:
                lines.append(_line(at, "merge", [mine[0], anchor]))
            else:
                lines.append(_line(at, "move", mine) | {"to": _named(anchor)})
            place.update(dict.fromkeys(mine, home))
        if len(lines) == before and len(keys) > 1:
            lines.append(_line(at, "useful", [anchor]))
    return lines


def _line(at: datetime, kind: str, keys: Sequence[Key]) -> Line:
    return {"at": at.isoformat(), "source": SOURCE, "kind": kind, "episodes": [_named(key) for key in keys]}


def _named(key: Key) -> dict[str, str]:
    return {"fingerprint": key[1], "starts_at": key[2].isoformat()}


def body_of(line: Line, number: int) -> bytes:
    """Return a line as the body of the row that brings it."""
    told = {name: line[name] for name in ("kind", "episodes")} | {"action": f"person-{number}"}
    if "to" in line:
        told["beside"] = line["to"]
    return json.dumps(told).encode()
