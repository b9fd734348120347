"""What people say of incidents: checked against what is committed, then put into the inbox.

Rules: nothing is changed here. What can be seen to be wrong is refused with problem+json before anything is written;
what turns out wrong later, because something came in between, is kept with its reason in the incident's `actions`. The
answer is 202 with the action's id once its row is on the disk.

Decision: an unknown field of a body is an error, as an unknown parameter is: a mistyped `episode` would otherwise move
everything, or nothing, and look like an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal
from uuid import uuid4

import msgspec
from aiohttp import web

from bridge.analysis.feedback import MAX_AUTHOR, MAX_NAMED, MAX_TEXT, EpisodeRef, Feedback, FeedbackKind
from bridge.api.asking import body_of, problem
from bridge.api.recording import recorded
from bridge.api.surroundings import ActionStanding, Credential, Kept, Standing, Surroundings
from bridge.model import IncidentState, RowKind, Word

MAX_BODY_BYTES = 1 << 20
_LIVELY = frozenset({IncidentState.OPEN, IncidentState.QUIET})
Episodes = Annotated[tuple[EpisodeRef, ...], msgspec.Meta(max_length=MAX_NAMED)]


class Remark(Word, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said, and by whom."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] = ""
    author: Annotated[str, msgspec.Meta(max_length=MAX_AUTHOR)] = ""


class Closing(Remark, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """It is over; `confirm` says that its alerts belong together."""

    confirm: bool = False


class Note(Remark, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something to remember."""

    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT, pattern=r"\S")]


class Merging(Remark, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both are one; this one goes into the other."""

    into: str


class Splitting(Remark, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Episodes that belong to another incident, or to one of their own."""

    episodes: Annotated[Episodes, msgspec.Meta(min_length=1)]
    to: str = ""


class Judgement(Remark, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an incident was worth, or which alert came first."""

    kind: Literal["root", "useful", "false_alarm"]
    episodes: Episodes = ()


#: What is said with each verb.
BODIES: dict[str, type[Remark]] = {
    "ack": Remark, "close": Closing, "note": Note, "merge": Merging, "split": Splitting, "feedback": Judgement,
}  # fmt: skip


class Correcting:
    """The handlers of what people say."""

    def __init__(
        self,
        kept: Kept,
        read: Callable[[Callable[[], Any]], Awaitable[Any]],
        around: Surroundings,
    ) -> None:
        """Prepare; `read` asks a store in a thread."""
        self._kept = kept
        self._read = read
        self._around = around

    async def say(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer POST /api/v1/incidents/{id}/ack, close, note, merge, split and feedback."""
        incident, verb = request.match_info["id"], request.match_info["verb"]
        said = await _body(request, BODIES[verb])
        action = await self.carry_out(request, who, _told(verb, incident, said))
        return _accepted(action)

    async def carry_out(self, request: web.Request, who: Credential, told: Feedback) -> str:
        """Check what is said of an incident and put it into the inbox; return the action's id."""
        incident = told.incident
        here = await self._standing(who, incident)
        _check_state(incident, here, told.kind)
        _check_episodes(incident, here, told)
        if told.into:
            if told.into == incident:
                raise problem(409, "an incident cannot be put into itself")
            _check_target(told.into, here, await self._standing(who, told.into))
        await self._write(request, who, told, {"state": here.state.value, "merged_into": here.merged_into})
        return told.action

    async def knows(self, who: Credential, action: str) -> bool:
        """Return whether an action of this id was understood already."""
        return await self._read(partial(self._kept.action, who.tenant, action)) is not None

    async def undo(self, request: web.Request, who: Credential) -> web.StreamResponse:
        """Answer POST /api/v1/actions/{id}/undo."""
        action = request.match_info["id"]
        said = await _body(request, Remark)
        found: ActionStanding | None = await self._read(partial(self._kept.action, who.tenant, action))
        if found is None:
            raise problem(404, "no action of this id; one that was just sent is known once it is understood")
        if found.kind is FeedbackKind.UNDO:
            raise problem(409, "an undo cannot be undone: say again what it took back")
        if found.state != "applied":
            raise problem(409, f"this action is not in force: it is {found.state}")
        told = Feedback(
            action=_new_id(), kind=FeedbackKind.UNDO, undoes=action, text=said.text, author=said.author
        )
        await self._write(request, who, told, {"kind": found.kind.value, "state": found.state})
        return _accepted(told.action)

    async def _standing(self, who: Credential, incident: str) -> Standing:
        found: Standing | None = await self._read(partial(self._kept.standing, who.tenant, incident))
        if found is None:
            raise problem(404, f"no incident {incident!r}; GET /api/v1/incidents lists them")
        return found

    async def _write(
        self, request: web.Request, who: Credential, told: Feedback, before: dict[str, Any]
    ) -> None:
        target, asked = told.incident or told.undoes, _recorded(told)
        async with recorded(
            self._around.audit, request, who, told.kind.value, target=target, asked=asked, before=before
        ) as change:
            await self._around.put(who.tenant, "", RowKind.FEEDBACK, msgspec.json.encode(told))
            change.after = {"action": told.action}


def _accepted(action: str) -> web.Response:
    body = msgspec.json.encode({"id": action})
    return web.Response(body=body, status=202, content_type="application/json")


async def _body(request: web.Request, form: type[Remark]) -> Any:
    """Return the body in its form; nothing is an empty object."""
    raw = await body_of(request, MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(raw or b"{}", type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise problem(400, f"the body cannot be used: {error}") from error
    except RecursionError as error:
        raise problem(400, "the body is nested too deeply") from error


def _told(verb: str, incident: str, said: Any) -> Feedback:
    """Return what is said, as the row that says it."""
    kind = FeedbackKind(said.kind if isinstance(said, Judgement) else verb)
    into = said.into if isinstance(said, Merging) else ""
    if isinstance(said, Splitting) and said.to:
        kind, into = FeedbackKind.MOVE, said.to
    if kind is FeedbackKind.ROOT and len(said.episodes) != 1:
        raise problem(400, "name the one episode that came first in `episodes`")
    episodes = said.episodes if isinstance(said, Splitting) or kind is FeedbackKind.ROOT else ()
    return Feedback(
        action=_new_id(), kind=kind, incident=incident, episodes=episodes, into=into, text=said.text,
        author=said.author, confirm=isinstance(said, Closing) and said.confirm,
    )  # fmt: skip


def _recorded(told: Feedback) -> dict[str, Any]:
    """Return what the audit log keeps of it: no words and no alerts, which an erase could not take out again."""
    return {
        "kind": told.kind.value, "into": told.into, "confirm": told.confirm, "author": told.author,
        "episodes": len(told.episodes), "text_chars": len(told.text),
    }  # fmt: skip


def _check_state(incident: str, here: Standing, kind: FeedbackKind) -> None:
    if here.state is IncidentState.MERGED:
        raise problem(409, f"{incident} was merged into {here.merged_into}: say it of that")
    if kind in {FeedbackKind.ACK, FeedbackKind.CLOSE} and here.state not in _LIVELY:
        raise problem(409, f"{incident} is {here.state.value} already")


def _check_episodes(incident: str, here: Standing, told: Feedback) -> None:
    alerts = {(each.fingerprint, source) for each in here.episodes for source in ("", each.source)}
    for ref in told.episodes:
        if (ref.fingerprint, ref.source) not in alerts:
            raise problem(
                404, f"{incident} has no episode of fingerprint {ref.fingerprint!r} from that source"
            )
    leaving = {(ref.fingerprint, ref.starts_at, ref.source) for ref in told.episodes}
    if told.kind is FeedbackKind.SPLIT and all(
        {(each.fingerprint, each.starts_at, ""), (each.fingerprint, each.starts_at, each.source)} & leaving
        for each in here.episodes
    ):
        raise problem(409, f"these are all episodes of {incident}: a split leaves some behind")


def _check_target(into: str, here: Standing, target: Standing) -> None:
    if target.state is IncidentState.MERGED:
        raise problem(409, f"{into} was merged into {target.merged_into}: name that")
    if target.state is IncidentState.CLOSED and here.state is not IncidentState.CLOSED:
        raise problem(409, f"{into} is closed, and what goes on cannot be put into it: put it into the other")


def _new_id() -> str:
    return f"act-{uuid4().hex[:16]}"
