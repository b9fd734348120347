"""What people do about an incident in Slack and in PagerDuty: buttons, a menu and webhooks that come back.

Both are said of the incident as the API's own words are, by `correcting`: they go through the inbox, stand in the audit
log, and the incident's `actions` name who it was. The signature says for which tenant; what is another tenant's is not
there for it. Who pressed is what the body says, so nothing but that signature is believed: no token, no certificate,
not this machine.

Rules: one press is one action. The action's id follows from what was signed, so that a repeat of it, whoever sends it,
is known and acts no second time, after a restart as well: Slack's is refused, PagerDuty's (which tries a webhook again)
is answered as the first. Only what a person did counts: what PagerDuty tells of an integration is Tocsin's own echo.
Slack wants an answer within three seconds, so the question to the store is given up before that.

Decision: a page that somebody resolves in PagerDuty is written down as a note and closes nothing. The alerts fire on,
and whether it is over is what Alertmanager says.
Sources: api.slack.com, "Verifying requests from Slack", "Handling user interaction"; developer.pagerduty.com,
"Webhooks v3", "Verifying signatures".
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from bridge.analysis.feedback import MAX_AUTHOR, MAX_NAMED, EpisodeRef, Feedback, FeedbackKind
from bridge.api.asking import body_of, problem
from bridge.api.correcting import Correcting
from bridge.api.surroundings import Credential, Surroundings
from bridge.auth import ROLE_RANK, Scheme, is_foreign
from bridge.errors import StorageError, UndecidedError
from bridge.model import Word

#: Anybody may send one, and it is read and hashed before anybody knows whose it is.
MAX_BODY_BYTES = 64 << 10
ROLE = "responder"
#: Slack shows an error to whoever pressed after three seconds.
ANSWER_S = 2.5
#: Presses that are remembered until the analyst has understood them.
REMEMBERED = 10_000
#: What the buttons of our messages are called; their value is the incident.
BUTTONS = {"tocsin_ack": FeedbackKind.ACK, "tocsin_false_alarm": FeedbackKind.FALSE_ALARM}
#: And the menu, whose block is called after the incident and whose options are alerts.
MENU, BLOCK = "tocsin_split", "split/"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: What PagerDuty tells of that is said of an incident.
PAGES = {"incident.acknowledged": FeedbackKind.ACK, "incident.resolved": FeedbackKind.NOTE}
RESOLVED = "resolved in PagerDuty"
_page_key = re.compile(r"(?P<incident>.{1,200})/e[0-9]{1,9}", re.DOTALL).fullmatch


class Presser(Word, frozen=True, kw_only=True):
    """Who pressed: a person, with the rights of the credential that what was pressed came with."""

    tenant: str
    role: str
    actor: str


class _User(Word, frozen=True, kw_only=True):
    id: str = ""
    username: str = ""
    name: str = ""


class _Option(Word, frozen=True, kw_only=True):
    value: str = ""


class _Pressed(Word, frozen=True, kw_only=True):
    action_id: str = ""
    block_id: str = ""
    value: str = ""
    selected_options: tuple[_Option, ...] = ()


class _Payload(Word, frozen=True, kw_only=True):
    type: str
    user: _User = _User()
    actions: tuple[_Pressed, ...] = ()


class _Agent(Word, frozen=True, kw_only=True):
    id: str = ""
    type: str = ""
    summary: str | None = None


class _Page(Word, frozen=True, kw_only=True):
    incident_key: str | None = None


class _Event(Word, frozen=True, kw_only=True):
    id: str
    event_type: str
    agent: _Agent | None = None
    data: _Page = _Page()


class _Webhook(Word, frozen=True, kw_only=True):
    event: _Event


class Pressing:
    """The two handlers."""

    def __init__(self, correcting: Correcting, around: Surroundings) -> None:
        self._correcting = correcting
        self._around = around
        self._taken: dict[tuple[str, str], None] = {}  # tenant and action, the oldest first

    async def slack(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/slack: a button in one of our messages was pressed, or alerts were chosen to leave."""
        who, body = await self._admitted(request, "slack")
        payload = _payload(body)
        pressed = next((each for each in payload.actions if each.action_id in {*BUTTONS, MENU}), None)
        if pressed is None or payload.type != "block_actions":
            return _answer()  # a link, or a button of somebody else's
        leaving = tuple(map(_chosen, pressed.selected_options[:MAX_NAMED]))
        if pressed.action_id == MENU and not leaving:
            return _answer()  # what was chosen was taken back
        user = payload.user
        told = Feedback(
            action=_action("slack", body),
            kind=BUTTONS.get(pressed.action_id, FeedbackKind.SPLIT),
            incident=(pressed.value or pressed.block_id.removeprefix(BLOCK))[:200],
            episodes=leaving,
            author=_named("Slack", user.name or user.username, user.id),
        )
        if not await self._take(request, who, told):
            raise problem(409, "this was pressed already, and taken")
        return _answer(told.action)

    async def pagerduty(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/pagerduty: somebody acknowledged or resolved a page of ours."""
        who, body = await self._admitted(request, "pagerduty")
        event = _decoded(body, _Webhook).event
        page = _page_key(event.data.incident_key or "")
        agent = event.agent
        if page is None or event.event_type not in PAGES or agent is None or agent.type != "user_reference":
            return _answer()
        kind = PAGES[event.event_type]
        told = Feedback(
            action=_action("pagerduty", event.id.encode()),
            kind=kind,
            incident=page["incident"],
            text=RESOLVED if kind is FeedbackKind.NOTE else "",
            author=_named("PagerDuty", agent.summary or "", agent.id),
        )
        try:
            is_new = await self._take(request, who, told)
        except (web.HTTPNotFound, web.HTTPConflict):
            return _answer()  # it is over here, or no incident of ours; to try again is of no use
        return _answer(*([told.action] if is_new else []))

    async def _admitted(self, request: web.Request, scheme: Scheme) -> tuple[Credential, bytes]:
        try:
            found = await self._around.authenticate_whole(request, scheme, MAX_BODY_BYTES, body_of)
        except UndecidedError as error:
            raise problem(503, f"{error}; try again") from error
        if found is None:
            raise problem(401, "the signature is missing, or of no secret that Tocsin knows")
        who, body = found
        if ROLE_RANK[who.role] < ROLE_RANK[ROLE]:
            raise problem(403, f"this needs the role {ROLE}; these credentials have {who.role}")
        if is_foreign(request.headers.get("Sec-Fetch-Site")):
            raise problem(403, "actions are not taken from another site's page")
        return who, body

    async def _take(self, request: web.Request, who: Credential, told: Feedback) -> bool:
        """Put an action into the inbox; return False if it is there already."""
        presser = Presser(tenant=who.tenant, role=who.role, actor=told.author)
        key = (who.tenant, told.action)
        if key in self._taken:
            return False
        self._taken[key] = None  # before anything is waited for, or two at once would both be the first
        try:
            async with asyncio.timeout(ANSWER_S):
                is_known = await self._correcting.knows(who, told.action)
            if not is_known:
                await self._correcting.carry_out(request, presser, told)
        except BaseException as error:
            del self._taken[key]
            if isinstance(error, StorageError | TimeoutError):
                raise problem(503, "the store did not answer; try again") from error
            raise
        while len(self._taken) > REMEMBERED:
            del self._taken[next(iter(self._taken))]
        return not is_known


def _payload(body: bytes) -> _Payload:
    """Return what Slack puts into a form as JSON."""
    try:
        fields = parse_qs(body.decode(), strict_parsing=True, max_num_fields=10)
    except ValueError as error:
        raise problem(400, "the body is no form") from error
    given = fields.get("payload", [])
    if len(given) != 1:
        raise problem(400, "the form has no field `payload`, or several")
    return _decoded(given[0].encode(), _Payload)  # type: ignore[no-any-return]


def _chosen(option: _Option) -> EpisodeRef:
    """Return the alert that an option stands for: its fingerprint and when it began, in microseconds."""
    fingerprint, _, began_us = option.value.partition("/")
    try:
        began = EPOCH + timedelta(microseconds=int(began_us))
    except (ValueError, OverflowError) as error:
        raise problem(400, "an option is no alert of ours") from error
    return EpisodeRef(fingerprint=fingerprint[:200], starts_at=began)


def _decoded(body: bytes, form: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise problem(400, f"what was sent cannot be used: {error}") from error
    except RecursionError as error:
        raise problem(400, "what was sent is nested too deeply") from error


def _action(scheme: str, said: bytes) -> str:
    """Return the id of what was said: the same for the same."""
    return f"act-{blake2b(said, digest_size=8, person=scheme.encode()).hexdigest()}"


def _named(where: str, name: str, number: str) -> str:
    """Return who it was, as the log and the incident show it."""
    text = f"{name} ({where} {number})" if name.strip() else f"{where} {number}"
    return "".join(each if each.isprintable() else " " for each in text)[:MAX_AUTHOR]


def _answer(*actions: str) -> web.Response:
    body = msgspec.json.encode({"actions": actions})
    return web.Response(body=body, content_type="application/json")
