"""The connector: settings, and which call comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Event, EventKind, Severity, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import OVER, encode, judge_http, smallest
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    HttpUrl,
    Secret,
    basic,
)
from connectors.kinds.jira import answers, issues

API = "rest/api/2"
AHEAD = frozenset({EventKind.FORECAST, EventKind.RECOMMENDATION})
HEADERS = {"content-type": "application/json", "accept": "application/json"}
OPEN, DONE = "open", "done"

Name = Annotated[str, pydantic.Field(min_length=1, max_length=100)]


class JiraSettings(DestinationSettings):
    """Which project, as whom, and how issues move."""

    kind: Literal["jira"] = pydantic.Field(default="jira", description=KIND)
    url: HttpUrl = pydantic.Field(description="Address of Jira, without /rest.")
    deployment: Literal["cloud", "data-center"] = pydantic.Field(
        default="cloud", description="cloud or data-center; their searches differ."
    )
    username: str | None = pydantic.Field(
        default=None, description="E-mail of the account in Cloud; null for a personal access token."
    )
    token: Secret | None = pydantic.Field(
        default=None, description="API token (Cloud) or personal access token (Data Center)."
    )
    token_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the token, instead of `token`."
    )
    project: Annotated[str, pydantic.Field(pattern=r"^[A-Z][A-Z0-9_]{1,99}$")] = pydantic.Field(
        description="Key of the project."
    )
    issue_type: Name = pydantic.Field(default="Task", description="Type of the issues, by its name.")
    priorities: dict[Severity, Name] = pydantic.Field(
        default={}, description="Priority by severity, by its name; a severity that is not here sets none."
    )
    resolve_transition: Name | None = pydantic.Field(
        default=None,
        description="Transition, or status it leads to, when an incident is over; null for none.",
    )
    reopen_transition: Name | None = pydantic.Field(
        default=None, description="Transition, or status it leads to, when it reopens; null for none."
    )
    max_bytes: int = pydantic.Field(
        default=128 * 1024, ge=SMALLEST_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class Jira(Connector):
    """Keeps one issue per incident."""

    Settings: ClassVar[type[JiraSettings]] = JiraSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "tickets",
        "kind": "jira",
        "url": "https://example.atlassian.net",
        "username": "tocsin@example.com",
        "token": "jira-token-of-tocsin",
        "project": "OPS",
        "resolve_transition": "Done",
    }
    caps = Caps(
        mode="newest",
        max_events=1,
        max_bytes=128 * 1024,
        delivery_class="at least once, deduplicate on event_id",
        updates=True,
        wait_s=30.0,
    )

    def __init__(self, settings: JiraSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._token = settings.needed("token")
        self._basic = None if settings.username is None else basic(settings.username, self._token)

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        return event.kind not in AHEAD  # nobody would close an issue about what has not begun

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, memory = events[0], memory or {}
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        request = self._step(event, memory, step, room)
        about = request.about | ({"over": "1"} if event.incident.state in OVER else {})
        return Rendered(
            request=msgspec.structs.replace(request, about=about), event_ids=(event.event_id,), step=step
        )

    def _step(self, event: Event, memory: Memory, step: str, room: int) -> Http:
        if step == answers.CREATE:
            return self._create(event, room)
        if not memory.get("key"):
            return self._search(event)
        name, _, number = step.partition("/")
        if name == answers.COMMENT:
            return self._comment(event, memory)
        if name == answers.TRANSITIONS:
            return self._transitions(event, memory)
        if name == answers.TRANSITION:
            return self._transition(event, memory, number)
        return self._update(event, memory, room)

    # ---- one call each -----------------------------------------------------------------------------------

    def _search(self, event: Event) -> Http:
        body = {
            "jql": f'project = "{self._settings.project}" AND labels = "{issues.label_of(event)}" ORDER BY created ASC',
            "fields": ["status"],
            "maxResults": 1,
        }
        path = "rest/api/3/search/jql" if self._settings.deployment == "cloud" else f"{API}/search"
        return self._call("POST", path, answers.SEARCH, encode(body))

    def _create(self, event: Event, room: int) -> Http:
        told = self._settings
        fields = {
            "project": {"key": told.project},
            "issuetype": {"name": told.issue_type},
            "labels": ["tocsin", issues.label_of(event)],
        }
        remembered = issues.told(event) | {"status": OPEN}
        body = smallest(self._fields(event, fields), room)
        return self._call("POST", f"{API}/issue", answers.CREATE, body, memory=encode(remembered).decode())

    def _update(self, event: Event, memory: Memory, room: int) -> Http:
        then = answers.COMMENT if issues.change(event, memory) else self._after_comment(event, memory)
        about = {"then": then} if then else {"memory": self._remembered(event, memory)}
        path = f"{API}/issue/{memory['key']}"
        return self._call("PUT", path, answers.UPDATE, smallest(self._fields(event, {}), room), **about)

    def _comment(self, event: Event, memory: Memory) -> Http:
        return self._call(
            "POST",
            f"{API}/issue/{memory['key']}/comment",
            answers.COMMENT,
            encode({"body": issues.change(event, memory) or f"event {event.event_id}"}),
            memory=self._remembered(event, memory),
            then=self._after_comment(event, memory),
        )

    def _transitions(self, event: Event, memory: Memory) -> Http:
        path = f"{API}/issue/{memory['key']}/transitions"
        return self._call(
            "GET",
            path,
            answers.TRANSITIONS,
            b"",
            want=self._transition_of(event) or "",
            memory=self._remembered(event, memory, moved=True),
        )

    def _transition(self, event: Event, memory: Memory, number: str) -> Http:
        return self._call(
            "POST",
            f"{API}/issue/{memory['key']}/transitions",
            answers.TRANSITION,
            encode({"transition": {"id": number}}),
            memory=self._remembered(event, memory, moved=True),
        )

    def _call(self, method: str, path: str, step: str, body: bytes, **about: str) -> Http:
        return Http(
            method=method,
            url=self._address(path),
            headers=HEADERS,
            body=body,
            about={"path": path, "step": step, **about},
        )

    # ---- what stands in them -----------------------------------------------------------------------------

    def _fields(self, event: Event, fixed: dict[str, Any]) -> Iterator[bytes]:
        """Yield the fields of an issue, the longest first; the last keeps little more than title and counts."""
        priority = self._settings.priorities.get(event.incident.severity)
        given = fixed | ({"priority": {"name": priority}} if priority else {})
        for listed in (issues.LISTED, issues.LISTED // 4, 0):
            texts = {"summary": issues.summary(event), "description": issues.description(event, listed)}
            yield encode({"fields": given | texts})

    def _transition_of(self, event: Event) -> str | None:
        is_over = event.incident.state in OVER
        return self._settings.resolve_transition if is_over else self._settings.reopen_transition

    def _after_comment(self, event: Event, memory: Memory) -> str:
        """Return the step that moves the issue; "" where it stands where it should, or nobody said how to move it."""
        wanted = DONE if event.incident.state in OVER else OPEN
        is_moved = memory.get("status", OPEN) == wanted
        return "" if is_moved or self._transition_of(event) is None else answers.TRANSITIONS

    def _remembered(self, event: Event, memory: Memory, *, moved: bool = False) -> str:
        status = memory.get("status", OPEN)
        if moved:
            status = DONE if event.incident.state in OVER else OPEN
        return encode(issues.told(event) | {"key": memory["key"], "status": status}).decode()

    # ---- answers and addresses ---------------------------------------------------------------------------

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, (self._token, self._basic))
        if isinstance(response, HttpResponse) and isinstance(rendered.request, Http):
            verdict = answers.judge(rendered.request, response, verdict)
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        headers = request.headers | {"authorization": self._credentials()}
        url = self._address(request.about["path"])
        return msgspec.structs.replace(request, url=url, headers=headers, ca_file=self._settings.ca_file)

    def _credentials(self) -> str:
        if self._basic is None:
            return f"Bearer {self._token.reveal()}"
        return f"Basic {self._basic.reveal()}"

    @override
    def probe(self) -> Request:
        return self._call("GET", f"{API}/{answers.MYSELF}", answers.MYSELF, b"")

    def _address(self, path: str) -> str:
        return f"{self._settings.url.rstrip('/')}/{path}"
