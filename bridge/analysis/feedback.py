"""Feedback: what a person says of an incident, and what is kept of it.

Rules: pure words. What comes in (`Feedback`) is the body of an inbox row; what came of it (`Action`) is kept and shown,
whether it could be done or not. An action has one id wherever it is put through again, so it acts once.

Decision: the id is in the row, made by whoever writes it, rather than derived from the row's number: numbers change
when a history is exported and replayed, and an undo names an action by its id.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated

import msgspec

from bridge.analysis.incidents import EpisodeKey
from bridge.model import Word

MAX_TEXT = 4_000  # characters of what a person writes
MAX_AUTHOR = 200
MAX_NAMED = 1_000  # episodes that one action may name


class FeedbackKind(StrEnum):
    """What a person may say."""

    ACK = "ack"  # somebody is at work: no reminders until it reopens or escalates
    CLOSE = "close"
    NOTE = "note"
    MERGE = "merge"
    SPLIT = "split"  # the episodes named leave for an incident of their own
    MOVE = "move"  # the episodes named leave for an incident that is there
    ROOT = "root"  # the episode named came first
    FALSE_ALARM = "false_alarm"
    USEFUL = "useful"
    UNDO = "undo"


#: A name of ours or of an Alertmanager's, as a person gives it.
Name = Annotated[str, msgspec.Meta(max_length=200)]


class EpisodeRef(Word, frozen=True, kw_only=True):
    """An episode as a person names it. Without `source` every source's is meant."""

    fingerprint: Name
    starts_at: Annotated[datetime, msgspec.Meta(tz=True)]
    source: Name = ""


class Feedback(Word, frozen=True, kw_only=True):
    """One thing that a person says: the body of a `RowKind.FEEDBACK` row."""

    action: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    kind: FeedbackKind
    incident: Name = ""  # "" where the episodes say which
    episodes: Annotated[tuple[EpisodeRef, ...], msgspec.Meta(max_length=MAX_NAMED)] = ()
    into: Name = ""  # merge, move: the incident that takes in
    beside: EpisodeRef | None = None  # move: an episode of the incident that takes in
    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] = ""
    author: Annotated[str, msgspec.Meta(max_length=MAX_AUTHOR)] = ""
    confirm: bool = False  # close: what is in the incident belongs together
    undoes: Name = ""  # undo: which action


class ActionState(StrEnum):
    """What became of an action."""

    APPLIED = "applied"
    UNDONE = "undone"
    REFUSED = "refused"


class Moved(Word, frozen=True, kw_only=True):
    """Episodes that an action moved between two incidents."""

    source: str
    target: str
    episodes: tuple[EpisodeKey, ...]


class Action(Word, frozen=True, kw_only=True):
    """What a person did, and what came of it."""

    id: str
    number: int  # counts up within a tenant
    at: datetime
    kind: FeedbackKind
    incidents: tuple[str, ...]  # that it is about; the one that a person looked at first
    text: str
    author: str
    state: ActionState
    reason: str = ""  # why it was refused, or what of it could not be done
    undoes: str = ""
    moved: tuple[Moved, ...] = ()
    root: EpisodeKey | None = None


def action_id(*parts: str) -> str:
    """Return an id that follows from what is said."""
    return "act-" + blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def newest_first(actions: dict[str, Action], incident: str) -> Iterator[Action]:
    """Return the actions in force that are about an incident."""
    for action in reversed(actions.values()):
        if action.state is ActionState.APPLIED and incident in action.incidents:
            yield action
