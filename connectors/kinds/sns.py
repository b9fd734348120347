"""Kind `sns`: events as messages of an Amazon SNS topic, ten at a time (`PublishBatch`).

The message is the event as JSON; its attributes are what subscriptions filter by; its subject, for those who read it as
an e-mail, is the incident's title. A topic whose name ends in `.fifo` gets `MessageGroupId` = the incident and
`MessageDeduplicationId` = the event id: within five minutes SNS itself takes a repeat for what it is.

Rules: SNS speaks forms and XML. A form makes JSON up to three times as long, and `max_bytes` bounds the form: what SNS
counts is always less. The topic is written anew for every attempt, so it is not in what is frozen.
Source: docs.aws.amazon.com, "PublishBatch"; quotas: 10 messages, 256 KiB together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

import msgspec
import pydantic
from pydantic import StringConstraints
from typing_extensions import override

from bridge.model import Delivered, Event, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.aws import (
    AwsSettings,
    attributes,
    error_of,
    judge_aws,
    judge_batch,
    judge_entry,
    wrapped,
)
from connectors.common import clip, first_that_fit, one_line
from connectors.credentials import KIND, SMALLEST_BYTES

FIFO = ".fifo"
HEAD = b"Action=PublishBatch&Version=2010-03-31"
ENTRY = "PublishBatchRequestEntries.member."
EMPTY = "EmptyBatchRequest"
ID_CHARACTERS, SUBJECT_CHARACTERS = 128, 100
#: Below this there is no room for attributes beside the event.
ATTRIBUTES_BYTES = 4096
_SECTION = re.compile(rb"<(Successful|Failed)>(.*?)</\1>", re.DOTALL)
_MEMBER = re.compile(rb"<member>(.*?)</member>", re.DOTALL)
_FIELD = re.compile(rb"<(Id|Code|Message|SenderFault)>([^<]*)</\1>")


class SnsSettings(AwsSettings):
    """Which topic."""

    kind: Literal["sns"] = pydantic.Field(default="sns", description=KIND)
    topic_arn: Annotated[
        str, StringConstraints(pattern=r"^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+(\.fifo)?$")
    ] = pydantic.Field(description="ARN of the topic; .fifo at its end makes messages ordered ones.")
    max_bytes: int = pydantic.Field(
        default=256 * 1024, ge=SMALLEST_BYTES, le=256 * 1024, description="Largest request in bytes."
    )

    @pydantic.model_validator(mode="after")
    def _same_region(self) -> SnsSettings:
        if self.topic_arn.split(":")[3] != self.region:
            raise ValueError("topic_arn: is of another region than `region`")
        return self


class Sns(Connector):
    """Publishes events to a topic."""

    Settings: ClassVar[type[SnsSettings]] = SnsSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "topic",
        "kind": "sns",
        "region": "eu-west-1",
        "topic_arn": "arn:aws:sns:eu-west-1:123456789012:incidents",
    }
    caps = Caps(
        mode="every",
        max_events=10,
        max_bytes=256 * 1024,
        delivery_class="at least once, deduplicate on event_id",
    )

    def __init__(self, settings: SnsSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._is_fifo = settings.topic_arn.endswith(FIFO)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        around = len(self._topic()) + len(HEAD)
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - around
        entries = [self._entry(number, event, room) for number, event in enumerate(events, start=1)]
        count = first_that_fit(entries, self.caps.max_bytes - around)
        return Rendered(
            request=self._request(HEAD + b"".join(entries[:count])),
            event_ids=tuple(event.event_id for event in events[:count]),
            step=step,
        )

    def _entry(self, number: int, event: Event, size_bytes: int) -> bytes:
        def form(text: str) -> bytes:
            fields = self._fields(event, text, with_attributes=size_bytes >= ATTRIBUTES_BYTES // 2)
            return "".join(
                f"&{ENTRY}{number}.{name}={quote(value, safe='')}" for name, value in fields
            ).encode()

        return wrapped(event, size_bytes, form)

    def _fields(self, event: Event, text: str, *, with_attributes: bool) -> Iterator[tuple[str, str]]:
        yield "Id", event.event_id
        yield "Message", text
        if self._is_fifo:
            yield "MessageGroupId", clip(event.incident.id, ID_CHARACTERS)
            yield "MessageDeduplicationId", event.event_id
        subject = _subject(event)
        if subject and with_attributes:
            yield "Subject", subject
        for number, (name, value) in enumerate(attributes(event) if with_attributes else (), start=1):
            entry = f"MessageAttributes.entry.{number}"
            yield f"{entry}.Name", name
            yield f"{entry}.Value.DataType", "String"
            yield f"{entry}.Value.StringValue", value

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        secrets = self._settings.secrets()
        verdict = judge_aws(response, secrets)
        if not isinstance(response, HttpResponse):
            return (verdict,) * len(rendered.event_ids)
        if _is_probe(rendered.request) and error_of(response)[0] == EMPTY:
            return (Delivered(),) * len(rendered.event_ids)
        if not isinstance(verdict, Delivered):
            return (verdict,) * len(rendered.event_ids)
        taken, failed = _results(response.body)
        verdicts = {
            each["Id"]: judge_entry(
                each.get("Code", ""), each.get("Message", ""),
                is_ours=each.get("SenderFault") != "false", secrets=secrets,
            )
            for each in failed
        }  # fmt: skip
        return judge_batch(rendered, frozenset(each["Id"] for each in taken), verdicts, response.status)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        return msgspec.structs.replace(
            request,
            url=self._settings.address("sns"),
            body=self._topic() + request.body,
            ca_file=self._settings.ca_file,
            auth=self._settings.auth("sns"),
        )

    @override
    def probe(self) -> Request:
        return self._request(HEAD + b"&PublishBatchRequestEntries=")

    def _request(self, body: bytes) -> Http:
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        return Http(method="POST", url=self._settings.address("sns"), headers=headers, body=body)

    def _topic(self) -> bytes:
        return f"TopicArn={quote(self._settings.topic_arn, safe='')}&".encode()


def _subject(event: Event) -> str:
    """Return the title as SNS takes it: ASCII, one line, at most 100 characters, not beginning with a space."""
    words = " ".join(one_line(event.incident.title).split())
    return words.encode("ascii", "replace").decode()[:SUBJECT_CHARACTERS].strip()


def _is_probe(request: Request) -> bool:
    return isinstance(request, Http) and request.body.endswith(b"&PublishBatchRequestEntries=")


def _results(body: bytes) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the entries that were taken and those that failed, as texts, each with an `Id`."""
    found: dict[bytes, list[dict[str, str]]] = {b"Successful": [], b"Failed": []}
    for name, section in _SECTION.findall(body):
        for member in _MEMBER.findall(section):
            fields = {key.decode(): value.decode("utf-8", "replace") for key, value in _FIELD.findall(member)}
            if "Id" in fields:
                found[name].append(fields)
    return found[b"Successful"], found[b"Failed"]
