"""What a replay is told by: its figures, and the biggest incidents by name.

Rule: the figures are of what was read and of what the store holds at the end; nothing is estimated.
"""

from __future__ import annotations

from datetime import datetime
from heapq import nlargest
from typing import IO, Any

import msgspec

from bridge.app.screen import count, plain, span, when
from bridge.model import Word
from bridge.storage.reading import StateReader

BIGGEST = 5


class Sized(Word, frozen=True, kw_only=True):
    """One incident of the summary."""

    incident: str
    title: str
    severity: str
    opened_at: datetime
    closed_at: datetime | None
    alerts: int


class Summary(Word, frozen=True, kw_only=True):
    """What a replay did."""

    webhooks: int
    alerts: int
    episodes: int
    incidents: int
    merged: int
    events: int
    quarantined: int
    bad_lines: int
    first_at: datetime | None
    last_at: datetime | None
    biggest: tuple[Sized, ...]

    def record(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {name: getattr(self, name) for name in self.__struct_fields__} | {
            "first_at": self.first_at and self.first_at.isoformat(),
            "last_at": self.last_at and self.last_at.isoformat(),
            "biggest": msgspec.to_builtins(self.biggest),
        }

    def text(self) -> str:
        """Return it for a person."""
        lines = [self._what()]
        if self.biggest:
            lines += ["", "The biggest:"]
            lines += [f"  {each.alerts:>6,}  {each.severity:8}  {_told(each)}" for each in self.biggest]
        if self.quarantined:
            lines += ["", f"{count(self.quarantined, 'item')} could not be used and went to quarantine."]
        if self.bad_lines:
            lines += ["", f"{count(self.bad_lines, 'line')} could not be used."]
        return "\n".join(lines)

    def _what(self) -> str:
        if self.first_at is None or self.last_at is None:
            return "There was nothing to replay."
        over = span((self.last_at - self.first_at).total_seconds())
        return (
            f"{count(self.webhooks, 'webhook')} with {count(self.alerts, 'alert')} over {over}"
            f" ({when(self.first_at)} on), resends and resolves included:\n"
            f"{count(self.episodes, 'episode')} of firing in {count(self.incidents, 'incident')}"
            f" ({self.merged:,} merged), told in {count(self.events, 'event')}."
        )


def write_incidents(reader: StateReader, file: IO[bytes]) -> tuple[Sized, ...]:
    """Write the final incidents as JSON lines; return the biggest."""
    decode = msgspec.json.Decoder(_Shown).decode
    biggest: list[Sized] = []
    after: Any = None
    while True:
        part = reader.incident_lines(None, after=after)
        file.writelines(part.lines)
        sized = [decode(line).sized() for line in part.lines]
        biggest = nlargest(BIGGEST, [*biggest, *sized], key=lambda each: each.alerts)
        after = part.next
        if after is None:
            return tuple(each for each in biggest if each.alerts)


class _Shown(msgspec.Struct):
    """As much of an incident's record as the summary needs."""

    incident: str
    title: str
    severity: str
    opened_at: datetime
    closed_at: datetime | None
    episodes: list[msgspec.Raw]

    def sized(self) -> Sized:
        return Sized(
            incident=self.incident, title=self.title, severity=self.severity, opened_at=self.opened_at,
            closed_at=self.closed_at, alerts=len(self.episodes),
        )  # fmt: skip


def _told(each: Sized) -> str:
    lasted = "" if each.closed_at is None else f", {span((each.closed_at - each.opened_at).total_seconds())}"
    return f"{plain(each.title)}  ({when(each.opened_at)}{lasted})"
