"""Feedback from a file, as rows between the recorded ones: `tocsin replay --feedback`.

A line is `{"at", "tenant"?, "source"?, "kind", "episodes"?, "text"?}` and what its kind needs: `to` (an episode) or
`into` and `incident` (ids), `confirm`, `author`, and for an undo `action`: the number of a line of this file, or an id.

Rules: a line that cannot be used is a `BadLine`, never an exception. The id of an action follows from its line and the
line's number, so the same file gives the same ids.

Decision: the file is held in memory. It is what people wrote, a few thousand lines at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from bridge.analysis.feedback import EpisodeRef, Feedback, FeedbackKind, action_id
from bridge.app.recordings import BadLine, Recorded, numbered
from bridge.model import RowKind, Word
from bridge.webhooks import alertmanager


class Opinions(Word, frozen=True, kw_only=True):
    """What a file says, in the order in which it was said."""

    rows: tuple[Recorded, ...]
    places: Mapping[str, str]  # of each action, by its id
    bad: tuple[BadLine, ...]


class _Line(Word, frozen=True, kw_only=True, forbid_unknown_fields=True):
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    kind: FeedbackKind
    tenant: str | None = None
    source: str = ""
    episodes: tuple[EpisodeRef, ...] = ()
    incident: str = ""
    into: str = ""
    to: EpisodeRef | None = None
    text: str = ""
    author: str = ""
    confirm: bool = False
    action: int | str = ""


def read(path: Path, *, tenant: str) -> Opinions:
    """Read a file of feedback; `tenant` is that of lines that name none.

    Raises:
        StorageError: The file cannot be read.
    """
    name = str(path)
    rows: list[Recorded] = []
    places: dict[str, str] = {}
    bad: list[BadLine] = []
    ids: dict[int, str] = {}
    for number, raw in numbered(name, path):
        try:
            row, ids[number] = _understood(raw, number, ids, tenant)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            bad.append(BadLine(file=name, line=number, reason=f"not feedback: {error}"))
        except RecursionError:
            bad.append(BadLine(file=name, line=number, reason="nested too deeply"))
        else:
            rows.append(row)
            places[ids[number]] = f"{name}:{number}"
    rows.sort(key=lambda row: row.received_at)  # stable: of equal times the earlier line goes first
    return Opinions(rows=tuple(rows), places=places, bad=tuple(bad))


def _understood(raw: bytes, number: int, ids: Mapping[int, str], tenant: str) -> tuple[Recorded, str]:
    """Return a line as a row, and the id of its action."""
    line = msgspec.json.decode(raw, type=_Line)
    if not alertmanager.FIRST_YEAR <= line.at.year <= alertmanager.LAST_YEAR:
        raise ValueError(f"at is not in the years {alertmanager.FIRST_YEAR} to {alertmanager.LAST_YEAR}")
    if isinstance(line.action, int) and line.action not in ids:
        raise ValueError(f"action: there is no good line {line.action} before this one")
    told = Feedback(
        action=action_id(str(number), raw.strip().decode()), kind=line.kind, incident=line.incident,
        episodes=tuple(_from(each, line.source) for each in line.episodes), into=line.into,
        beside=None if line.to is None else _from(line.to, line.source), text=line.text, author=line.author,
        confirm=line.confirm, undoes=ids[line.action] if isinstance(line.action, int) else line.action,
    )  # fmt: skip
    body = msgspec.json.encode(told)
    msgspec.json.decode(body, type=Feedback)  # its limits, told here with the place
    row = Recorded(
        received_at=line.at.astimezone(UTC), tenant=tenant if line.tenant is None else line.tenant, source="",
        kind=RowKind.FEEDBACK, body=body, alerts=0,
    )  # fmt: skip
    return row, told.action


def _from(ref: EpisodeRef, source: str) -> EpisodeRef:
    return ref if ref.source else msgspec.structs.replace(ref, source=source)
