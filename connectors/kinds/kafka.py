"""Kind `kafka`: one record per event in a topic, the incident as its key, so that its events keep their order.

Every record is a CloudEvent (Kafka protocol binding 1.0): in binary mode the attributes are headers (`ce_id`,
`ce_source`, ...) beside the value, with `format: cloudevents` the value is the whole envelope. The record's time is the
event's. The key is `<tenant>/<incident>`.

Rule: a record counts when all replicas in sync have it (acks=all). The producer is idempotent: what it repeats within
its own session is kept once. What another attempt repeats is not, hence "at least once"; `ce_id` is the event id.

Decision: a topic that is not there blocks, although the protocol calls that error one that passes: it passes when
somebody makes the topic, and until then everything is kept and an alarm tells of it. What is not known to be about one
record throws none away.
Source: https://kafka.apache.org/protocol, error codes; CloudEvents bindings/kafka-protocol-binding.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import AfterValidator
from typing_extensions import override

from bridge.model import Blocked, Delivered, Event, Reject, Retry, Split, Verdict
from bridge.ports import (
    Caps,
    Connector,
    Memory,
    Publish,
    Published,
    Record,
    Rendered,
    Request,
    Response,
    Unpublished,
    Unreached,
    record_bytes,
)
from connectors.common import judge_unreached, milliseconds
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    Secret,
)
from connectors.formats import FORMAT, Format, cloudevents, encoder_of

#: By whether there is a user and whether there is TLS.
SECURITY: dict[tuple[bool, bool], Literal["plaintext", "tls", "sasl", "sasl+tls"]] = {
    (False, False): "plaintext",
    (False, True): "tls",
    (True, False): "sasl",
    (True, True): "sasl+tls",
}
TOO_LARGE = frozenset({"MESSAGE_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE"})
#: What tells of one record.
OF_ONE_RECORD = frozenset({"INVALID_RECORD", "INVALID_TIMESTAMP"})
#: What to look at, where the error says it; none of these passes by itself.
HINTS = {
    "UNKNOWN_TOPIC_OR_PARTITION": "the topic is not there; make it, or correct `topic`",
    "INVALID_TOPIC": "this cannot be a topic's name",
    "TOPIC_AUTHORIZATION_FAILED": "the user may not write to the topic",
    "CLUSTER_AUTHORIZATION_FAILED": "the user needs IDEMPOTENT_WRITE on the cluster (before Kafka 2.8)",
    "SASL_AUTHENTICATION_FAILED": "the user or the password was refused",
}


def _check_servers(text: str) -> str:
    for server in text.split(","):
        if not re.fullmatch(r"(?:[^\s:\[\]/@]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", server):
            raise ValueError("expected host:port, several apart by commas without spaces")
    return text


class KafkaSettings(DestinationSettings):
    """Which topic of which cluster, and how to sign in."""

    kind: Literal["kafka"] = pydantic.Field(default="kafka", description=KIND)
    servers: Annotated[str, AfterValidator(_check_servers)] = pydantic.Field(
        description="Some brokers as host:port, apart by commas; they name the others."
    )
    topic: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")] = pydantic.Field(
        description="Topic to write to; it has to be there unless the cluster makes topics by itself."
    )
    format: Format | Literal["cloudevents"] = pydantic.Field(
        default="event", description=FORMAT.rstrip(".") + ", `cloudevents` (structured)."
    )
    tls: bool = pydantic.Field(default=True, description="false: without TLS.")
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = pydantic.Field(
        default="SCRAM-SHA-512", description="SASL mechanism, where `username` is given."
    )
    username: str | None = pydantic.Field(default=None, description="SASL user; null signs in as nobody.")
    password: Secret | None = pydantic.Field(default=None, description="SASL password.")
    password_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the password, instead of `password`."
    )
    compression: Literal["none", "gzip"] = pydantic.Field(
        default="none", description="How batches of records are compressed: none or gzip."
    )
    max_bytes: int = pydantic.Field(
        default=1_000_000,
        ge=SMALLEST_BYTES,
        description="Largest request in bytes; brokers take 1 MiB unless told otherwise.",
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)
    certificate_file: CaFile = pydantic.Field(
        default="", description="PEM file of a client certificate to show; empty for none."
    )
    key_file: str = pydantic.Field(
        default="", description="PEM file of its private key, not encrypted; needed with `certificate_file`."
    )

    @override
    def required(self) -> frozenset[str]:
        return frozenset() if self.username is None else frozenset({"password"})

    @pydantic.model_validator(mode="after")
    def _user_and_password(self) -> KafkaSettings:
        if self.username is None and self.credential("password") is not None:
            raise ValueError("password without username")
        return self

    @pydantic.model_validator(mode="after")
    def _certificate_and_key(self) -> KafkaSettings:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("give both certificate_file and key_file, or none")
        if self.key_file and not Path(self.key_file).is_file():
            raise ValueError(f"cannot read {self.key_file}")
        return self


class Kafka(Connector):
    """Writes events to a topic."""

    Settings: ClassVar[type[KafkaSettings]] = KafkaSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "bus",
        "kind": "kafka",
        "servers": "kafka-1.example.com:9093,kafka-2.example.com:9093",
        "topic": "incidents",
        "username": "tocsin",
        "password": "kafka-password-of-tocsin",
    }
    caps = Caps(
        mode="every",
        max_events=100,
        max_bytes=1_000_000,
        delivery_class="at least once, deduplicate on event_id",
    )

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._password = settings.credential("password")
        self._encoded = (
            cloudevents.structured if settings.format == "cloudevents" else encoder_of(settings.format)
        )

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        records: list[Record] = []
        total = 0
        for event in events:
            record = self._record(event, size_bytes)
            total += record_bytes(record)
            if records and total > size_bytes:
                break
            records.append(record)
        return Rendered(
            request=self._publish(tuple(records)),
            event_ids=tuple(event.event_id for event in events[: len(records)]),
            step=step,
        )

    def _record(self, event: Event, size_bytes: int) -> Record:
        key = f"{event.tenant}/{event.incident.id}".encode()
        record = Record(key=key, value=b"", headers=self._headers(event), at_ms=milliseconds(event.at))
        return msgspec.structs.replace(record, value=self._encoded(event, size_bytes - record_bytes(record)))

    def _headers(self, event: Event) -> dict[str, str]:
        if self._settings.format == "cloudevents":
            return {"content-type": f"{cloudevents.CONTENT_TYPE}; charset=UTF-8"}
        given = {f"ce_{name}": value for name, value in cloudevents.attributes(event).items()}
        return {"content-type": "application/json", **given}

    def _publish(self, records: tuple[Record, ...]) -> Publish:
        told = self._settings
        return Publish(
            address=told.servers,
            topic=told.topic,
            records=records,
            security=SECURITY[told.username is not None, told.tls],
            compression=told.compression,
            ca_file=told.ca_file,
            certificate_file=told.certificate_file,
            key_file=told.key_file,
        )

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        count = len(rendered.event_ids)
        match response:
            case Published():
                return _judge_faults(response.faults, count, is_probe=_is_probe(rendered.request))
            case Unreached():
                return (judge_unreached(response),) * count
            case _:
                return (Reject(reason="the answer is of another protocol"),) * count

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Publish):
            return request
        sealed = self._publish(request.records)
        if self._settings.username is None or self._password is None:
            return sealed
        login = {
            "mechanism": self._settings.mechanism,
            "username": self._settings.username,
            "password": self._password.reveal(),
        }
        return msgspec.structs.replace(sealed, login=login)

    @override
    def probe(self) -> Publish:
        return self._publish(())


def _is_probe(request: Request) -> bool:
    return isinstance(request, Publish) and not request.records


def _judge_faults(faults: Sequence[Unpublished | None], count: int, *, is_probe: bool) -> tuple[Verdict, ...]:
    """Return the verdicts; of a record that nothing is said of nothing is known."""
    if is_probe and not faults:
        return (Delivered(),) * count
    judged = [_judge_fault(each) for each in faults[:count]]
    unknown = Retry(reason="nothing was said of this record", maybe_sent=True)
    return (*judged, *(unknown,) * (count - len(judged)))


def _judge_fault(fault: Unpublished | None) -> Verdict:
    if fault is None:
        return Delivered()
    reason = f"Kafka: {fault.name}"
    if fault.name in TOO_LARGE:
        return Split(reason=reason)
    if fault.name in OF_ONE_RECORD:
        return Reject(reason=reason)
    if fault.name in HINTS:
        return Blocked(reason=f"{reason} ({HINTS[fault.name]})")
    if fault.may_pass:
        return Retry(reason=reason, maybe_sent=fault.maybe_sent, whole_destination=True)
    return Blocked(reason=reason)
