"""Kind `example`: notifies a topic of a server that speaks as ntfy does, one message per event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import clip, encode, json_object, judge_http, one_line, smallest
from connectors.credentials import KIND, DestinationSettings, FromFile, OriginUrl, Secret
from connectors.wording import alert_text

PRIORITIES = {"critical": 5, "warning": 4, "info": 2}


class ExampleSettings(DestinationSettings):
    """What stands in the configuration beside what every destination has."""

    kind: Literal["example"] = pydantic.Field(default="example", description=KIND)
    url: OriginUrl = pydantic.Field(description="Scheme, host and port of the server.")
    topic: str = pydantic.Field(default="tocsin", description="Topic to notify.")
    token: Secret | None = pydantic.Field(default=None, description="Access token.")
    token_file: FromFile | None = pydantic.Field(default=None, description="File that holds the token.")


class Example(Connector):
    """Notifies a topic."""

    Settings: ClassVar[type[ExampleSettings]] = ExampleSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "phone",
        "kind": "example",
        "url": "https://notify.example.com",
        "token": "tk_example_0000",
    }
    caps = Caps(
        mode="every", max_events=1, max_bytes=4096, delivery_class="at least once, deduplicate on event_id"
    )

    def __init__(self, settings: ExampleSettings) -> None:
        self._settings = settings
        self._token = settings.needed("token")

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, view = events[0], events[0].incident
        counts = f"{view.alerts_firing} of {view.alerts_total} alerts firing ({view.id})"
        head = {
            "topic": self._settings.topic,
            "title": one_line(clip(view.title, 200)),
            "priority": PRIORITIES[view.severity],
            "tags": [event.kind.value, event.event_id],
        }
        lines = [one_line(clip(alert_text(each), 200)) for each in view.episodes[:5]]
        bodies = (encode(head | {"message": "\n".join([counts, *lines[:kept]])}) for kept in (5, 2, 0))
        body = smallest(bodies, min(max_bytes or self.caps.max_bytes, self.caps.max_bytes))
        request = Http(method="POST", url=self._settings.url, headers={}, body=body)
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, (self._token,))
        if isinstance(verdict, Delivered) and isinstance(response, HttpResponse):
            answer = json_object(response.body)
            if "id" not in answer and not answer.get("healthy"):  # a login page answers 200 to everything
                verdict = Blocked(reason=f"HTTP {response.status}: not the server's own answer")
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        path = "/v1/health" if request.method == "GET" else "/"
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token.reveal()}"}
        return msgspec.structs.replace(request, url=self._settings.url.rstrip("/") + path, headers=headers)

    @override
    def probe(self) -> Request | None:
        return Http(method="GET", url=self._settings.url, headers={}, body=b"")
