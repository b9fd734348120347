"""Kind `pubsub`: events to a topic of Google Cloud Pub/Sub, one message each.

A message's data is the event as JSON; its attributes are what a subscription filters by (`attributes.severity =
"critical"`). The incident is the ordering key: a subscription with message ordering gets what happens to an incident in
order. Pub/Sub does not recognise a repeat by itself, so that `event_id` stands in the attributes.

A request is taken whole or not at all, and does not say which message was not good: smaller requests find it.

Decision: the REST API, as one POST. Rejected: Google's client, whose queue and retries of its own hide from the
dispatcher what became of an event, and which takes 48 MB.
Source: cloud.google.com/pubsub/docs/reference/rest/v1/projects.topics/publish; "Pub/Sub quotas and limits";
github.com/googleapis/google-cloudevents, docs/spec/pubsub.md.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import StringConstraints
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.google import GoogleSettings, auth, judge_google, of_batch
from connectors.common import clip_escaped, encode, first_that_fit, json_object, one_line, utf8_size
from connectors.credentials import CA_FILE, KIND, SMALLEST_BYTES, CaFile, OriginUrl
from connectors.formats import Format, cloudevents, encoder_of
from connectors.wording import host, label, name_of, worst

SCOPE = "https://www.googleapis.com/auth/pubsub"
PUBLISH, TEST = "publish", "testIamPermissions"
PERMISSION = "pubsub.topics.publish"
#: Of one request, and of the value of one attribute. Source: "Resource limits".
MAX_EVENTS, MAX_BYTES, ATTRIBUTE_BYTES = 1000, 10_000_000, 1024
#: What every attribute together takes at most, as JSON, where texts of alerts are long.
SEARCHED_BYTES = 200
SEARCHED_LABELS = ("service", "cluster", "namespace")
HEADERS = {"content-type": "application/json"}
HEAD, TAIL = b'{"messages":[', b"]}"


class PubSubSettings(GoogleSettings):
    """Which topic."""

    kind: Literal["pubsub"] = pydantic.Field(default="pubsub", description=KIND)
    project: Annotated[str, StringConstraints(pattern=r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{2,61}[a-z0-9]$")] = (
        pydantic.Field(description="Id of the project that the topic is in.")
    )
    topic: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.~+%-]{2,254}$")] = pydantic.Field(
        description="Name of the topic, without `projects/.../topics/`."
    )
    format: Format | Literal["cloudevents"] = pydantic.Field(
        default="event",
        description="What the data of a message is: `event` (tocsin.event/1), `cloudevents` (the same, with the "
        "attributes of CloudEvents 1.0), `ocsf-incident`, `ocsf-detection` (OCSF 1.8.0).",
    )
    url: OriginUrl = pydantic.Field(
        default="https://pubsub.googleapis.com",
        description="Address of the service: a regional one keeps the order of an incident across regions; "
        "`http://localhost:8085` is an emulator, which gets no credentials.",
    )
    max_bytes: int = pydantic.Field(
        default=MAX_BYTES, ge=SMALLEST_BYTES, le=MAX_BYTES, description="Largest request in bytes."
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)


class PubSub(Connector):
    """Publishes events."""

    Settings: ClassVar[type[PubSubSettings]] = PubSubSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "bus",
        "kind": "pubsub",
        "project": "example-monitoring",
        "topic": "incidents",
    }
    caps = Caps(
        mode="every",
        max_events=MAX_EVENTS,
        max_bytes=MAX_BYTES,
        delivery_class="at least once, deduplicate on event_id",
        atomic=True,
    )

    def __init__(self, settings: PubSubSettings) -> None:
        self._settings = settings
        self._encoded = encoder_of("event" if settings.format == "cloudevents" else settings.format)
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - len(HEAD) - len(TAIL)
        messages = [self._message(event, size_bytes) for event in events]
        count = first_that_fit(messages, size_bytes, joint_bytes=1)
        request = Http(
            method="POST", url=self._address(PUBLISH), headers=HEADERS,
            body=HEAD + b",".join(messages[:count]) + TAIL,
        )  # fmt: skip
        return Rendered(
            request=request, event_ids=tuple(event.event_id for event in events[:count]), step=step
        )

    def _message(self, event: Event, size_bytes: int) -> bytes:
        attributes = _attributes(event)
        match self._settings.format:
            case "event":
                pass
            case "cloudevents":
                attributes |= _wrapped(event)
            case other:
                attributes["schema"] = other
        message = {"attributes": attributes, "orderingKey": event.incident.id}
        room = size_bytes - len(encode(message)) - len(b',"data":""')
        data = base64.b64encode(self._encoded(event, room // 4 * 3)).decode("ascii")
        return encode(message | {"data": data})

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict, count = judge_google(response), len(rendered.event_ids)
        if isinstance(verdict, Delivered) and isinstance(response, HttpResponse):
            answer = json_object(response.body)
            verdict = _permitted(answer) if _is_probe(rendered.request) else _published(answer, count)
        return of_batch(verdict, count)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        return msgspec.structs.replace(
            request,
            url=self._address(TEST if _is_probe(request) else PUBLISH),
            auth=auth(self._settings, self._settings.url, SCOPE),
            ca_file=self._settings.ca_file,
        )

    @override
    def probe(self) -> Request | None:
        if not self._settings.url.startswith("https://"):
            return None  # an emulator does not know this method
        body = encode({"permissions": [PERMISSION]})
        return Http(method="POST", url=self._address(TEST), headers=HEADERS, body=body)

    def _address(self, method: str) -> str:
        topic = f"projects/{self._settings.project}/topics/{self._settings.topic}"
        return f"{self._settings.url.rstrip('/')}/v1/{topic}:{method}"


def _attributes(event: Event) -> dict[str, str]:
    """Return what subscriptions filter by; those about alerts tell of the worst one where they differ."""
    view, found = event.incident, worst(event)
    own = {
        "content-type": "application/json",
        "schema": event.schema,
        "event_id": event.event_id,
        "incident": view.id,
        "kind": event.kind.value,
        "seq": str(event.seq),
        "state": view.state.value,
        "severity": view.severity,
        "origin": view.origin,
        "tenant": _value(event.tenant, ATTRIBUTE_BYTES),
    }
    about = {
        "alertname": name_of(found) if found else "",
        "host": host(event),
        **{name: label(event, name) for name in SEARCHED_LABELS},
    }
    return own | {name: _value(text, SEARCHED_BYTES) for name, text in about.items() if text}


def _wrapped(event: Event) -> dict[str, str]:
    """Return the attributes of CloudEvents as its binding to Pub/Sub has them, in binary mode."""
    told = cloudevents.attributes(event)
    number = cloudevents.SEVERITY_NUMBERS[event.incident.severity]
    return {f"ce-{name}": value for name, value in told.items()} | {"ce-severitynumber": str(number)}


def _value(text: str, size_bytes: int) -> str:
    return clip_escaped(one_line(text[:size_bytes]), size_bytes, str, utf8_size)


def _is_probe(request: Request) -> bool:
    return isinstance(request, Http) and request.url.endswith(f":{TEST}")


def _published(answer: dict[str, Any], count: int) -> Verdict:
    ids = answer.get("messageIds")
    if isinstance(ids, list) and len(ids) == count:
        return Delivered()
    return Blocked(
        reason="the answer is not Pub/Sub's, which lists an id per message; is a proxy in between?"
    )


def _permitted(answer: dict[str, Any]) -> Verdict:
    if answer.get("permissions") == [PERMISSION]:
        return Delivered()
    return Blocked(reason=f"the credentials may not {PERMISSION} on this topic, or it does not exist")
