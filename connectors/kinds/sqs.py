"""Kind `sqs`: events as messages of an Amazon SQS queue, ten at a time (`SendMessageBatch`).

The body of a message is the event as JSON; its attributes are what consumers choose by. A queue whose name ends in
`.fifo` gets `MessageGroupId` = the incident, so that each incident keeps its order, and `MessageDeduplicationId` = the
event id: within five minutes SQS itself takes a repeat for what it is.

Rules: 200 is not success, each entry has its own (`Successful`, `Failed`). The address of the queue is written anew for
every attempt, so it is not in what is frozen.
Decision: the probe is an empty batch. It needs no permission that sending does not need, which asking for the queue's
attributes would, and SQS refuses it as empty only after the address and the signature were good.
Source: docs.aws.amazon.com, "SendMessageBatch"; quotas: 10 messages, 1 MiB together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
import pydantic
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
from connectors.common import clip, encode, first_that_fit, json_object
from connectors.credentials import KIND, SMALLEST_BYTES, HttpUrl

FIFO = ".fifo"
HEAD, TAIL = b'{"Entries":[', b"]}"
EMPTY = "EmptyBatchRequest"
ID_CHARACTERS = 128


class SqsSettings(AwsSettings):
    """Which queue."""

    kind: Literal["sqs"] = pydantic.Field(default="sqs", description=KIND)
    queue_url: HttpUrl = pydantic.Field(
        description="Address of the queue as SQS gives it; .fifo at its end makes messages ordered ones."
    )
    max_bytes: int = pydantic.Field(
        default=256 * 1024,
        ge=SMALLEST_BYTES,
        le=2**20,
        description="Largest request in bytes; SQS takes 1 MiB, if the queue's own limit is not lower.",
    )


class Sqs(Connector):
    """Sends events to a queue."""

    Settings: ClassVar[type[SqsSettings]] = SqsSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "queue",
        "kind": "sqs",
        "region": "eu-west-1",
        "queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/incidents.fifo",
    }
    caps = Caps(
        mode="every",
        max_events=10,
        max_bytes=256 * 1024,
        delivery_class="at least once, deduplicate on event_id",
    )

    def __init__(self, settings: SqsSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._is_fifo = urlsplit(settings.queue_url).path.endswith(FIFO)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        around = len(self._queue()) + len(HEAD) + len(TAIL)
        room = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - around
        entries = [self._entry(event, room) for event in events]
        count = first_that_fit(entries, self.caps.max_bytes - around, joint_bytes=1)
        return Rendered(
            request=self._request(HEAD + b",".join(entries[:count]) + TAIL),
            event_ids=tuple(event.event_id for event in events[:count]),
            step=step,
        )

    def _entry(self, event: Event, size_bytes: int) -> bytes:
        entry: dict[str, Any] = {
            "Id": event.event_id,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in attributes(event)
            },
        }
        if self._is_fifo:
            entry["MessageGroupId"] = clip(event.incident.id, ID_CHARACTERS)
            entry["MessageDeduplicationId"] = event.event_id
        return wrapped(event, size_bytes, lambda text: encode(entry | {"MessageBody": text}))

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
        answer = json_object(response.body)
        failed = {
            each["Id"]: judge_entry(
                each.get("Code", ""), each.get("Message", ""),
                is_ours=each.get("SenderFault") is not False, secrets=secrets,
            )
            for each in _entries(answer.get("Failed"))
        }  # fmt: skip
        taken = frozenset(each["Id"] for each in _entries(answer.get("Successful")))
        return judge_batch(rendered, taken, failed, response.status)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        # The frozen body is a JSON object that is never empty: the queue becomes its first member.
        return msgspec.structs.replace(
            request,
            url=self._address(),
            body=b"{" + self._queue() + request.body[1:],
            ca_file=self._settings.ca_file,
            auth=self._settings.auth("sqs"),
        )

    @override
    def probe(self) -> Request:
        return self._request(HEAD + TAIL)

    def _request(self, body: bytes) -> Http:
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS.SendMessageBatch"}
        return Http(method="POST", url=self._address(), headers=headers, body=body)

    def _queue(self) -> bytes:
        return b'"QueueUrl":' + encode(self._settings.queue_url) + b","

    def _address(self) -> str:
        queue = urlsplit(self._settings.queue_url)
        return (self._settings.endpoint or f"{queue.scheme}://{queue.netloc}").rstrip("/") + "/"


def _is_probe(request: Request) -> bool:
    return isinstance(request, Http) and request.body.endswith(HEAD[1:] + TAIL)


def _entries(listed: object) -> list[dict[str, Any]]:
    """Return the entries of a list of an answer that have an id and texts where texts belong."""
    return [
        each
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict)
        and all(isinstance(each.get(key, ""), str) for key in ("Code", "Message"))
        and isinstance(each.get("Id"), str)
    ]
