"""Kind `eventhubs`: events into an event hub, by its HTTPS interface.

One request carries events of one incident, in order, and the incident is their partition key: all of an incident lies
in one partition, and a consumer reads it as it happened. A batch goes into one partition as a whole, so that what waits
for other incidents goes in requests of its own.

Each message is the event as JSON (`tocsin.event/1`); properties beside it (event_id, incident, kind, severity, ...) let
a consumer choose without reading it.

Rules: only 201 is success. There is no deduplication and no harmless question, so there is no probe.
Decision: signatures are given ready-made (a shared access signature with an end). Rejected: to make them of a key,
which is security code, and no library of Azure's makes them without bringing its own connection along.
Source: learn.microsoft.com, "Event Hubs REST API: Send batch events", "Common parameters and headers".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pydantic
from pydantic import AfterValidator, StringConstraints
from typing_extensions import override

from bridge.model import Blocked, Event, Split, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.clouds.azure import AzureSettings, auth, judge_azure
from connectors.common import clip, encode, first_that_fit, fit, one_line
from connectors.credentials import CA_FILE, KIND, SMALLEST_BYTES, CaFile, FromFile, OriginUrl, Secret

SCOPE = "https://eventhubs.azure.net/.default"
ROLE = "the role Azure Event Hubs Data Sender on the hub, or a signature the right to send"
#: A publication of the Standard tier, in bytes; Basic takes 256 KB.
MAX_BYTES = 1_000_000
CREATED = 201
#: How Event Hubs and Service Bus say that a message is too large, where they do not answer 413.
TOO_LARGE = (b"message-size-exceeded", b"messagesizeexceeded", b"too large")
#: JSON within a JSON text grows by its quotes and backslashes: it is made for this much of the room, at last.
SHARES = (1.0, 0.8, 0.65, 0.5)
KEY_CHARACTERS, PROPERTY_CHARACTERS = 128, 256


def _check_signature(signature: Secret) -> Secret:
    text = signature.reveal()
    if not text.startswith("SharedAccessSignature ") or "sig=" not in text or not text.isprintable():
        raise ValueError("expected SharedAccessSignature sr=...&sig=...&se=...&skn=...")
    return signature


Signature = Annotated[Secret, AfterValidator(_check_signature)]
SignatureFromFile = Annotated[FromFile, AfterValidator(_check_signature)]


class EventHubsSettings(AzureSettings):
    """Which hub."""

    kind: Literal["eventhubs"] = pydantic.Field(default="eventhubs", description=KIND)
    url: OriginUrl = pydantic.Field(
        description="Address of the namespace, such as https://example.servicebus.windows.net."
    )
    hub: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,255}$")] = pydantic.Field(
        description="Name of the event hub."
    )
    sas_token: Signature | None = pydantic.Field(
        default=None, description="Shared access signature that may send, instead of an identity."
    )
    sas_token_file: SignatureFromFile | None = pydantic.Field(
        default=None, description="File that holds the signature, instead of `sas_token`."
    )
    max_bytes: int = pydantic.Field(
        default=MAX_BYTES,
        ge=SMALLEST_BYTES,
        le=2**20,
        description="Largest request in bytes; the Basic tier takes 262144.",
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def signature(self) -> Secret | None:
        return self.credential("sas_token")


class EventHubs(Connector):
    """Sends events to a hub."""

    Settings: ClassVar[type[EventHubsSettings]] = EventHubsSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "bus",
        "kind": "eventhubs",
        "url": "https://example.servicebus.windows.net",
        "hub": "incidents",
        "identity": "workload",
    }
    caps = Caps(
        mode="every",
        max_events=20,  # most of those that wait are of other incidents
        max_bytes=MAX_BYTES,
        delivery_class="at least once, deduplicate on event_id",
        atomic=True,
    )

    def __init__(self, settings: EventHubsSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        size_bytes = min(max_bytes or self.caps.max_bytes, self.caps.max_bytes) - len(b"[]")
        first = events[0]
        alike = list(takewhile(lambda each: _key(each) == _key(first), events))
        messages = [_message(event, size_bytes) for event in alike]
        count = first_that_fit(messages, size_bytes, joint_bytes=1)
        request = Http(
            method="POST",
            url=self._address(),
            headers={"content-type": "application/vnd.microsoft.servicebus.json"},
            body=b"[" + b",".join(messages[:count]) + b"]",
        )
        event_ids = tuple(event.event_id for event in alike[:count])
        return Rendered(request=request, event_ids=event_ids, step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_azure(response, CREATED, ROLE, self._settings.secrets())
        if isinstance(verdict, Blocked) and isinstance(response, HttpResponse):
            body = response.body.lower()
            if any(words in body for words in TOO_LARGE):
                verdict = Split(reason=verdict.reason)
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        url, signature = self._address(), self._settings.signature()
        headers = request.headers | ({"authorization": signature.reveal()} if signature else {})
        return msgspec.structs.replace(
            request,
            url=url,
            headers=headers,
            ca_file=self._settings.ca_file,
            auth=auth(self._settings, url, SCOPE),
        )

    def _address(self) -> str:
        return f"{self._settings.url.rstrip('/')}/{self._settings.hub}/messages?api-version=2014-01"


def _key(event: Event) -> str:
    return clip(event.incident.id, KEY_CHARACTERS)


def _message(event: Event, size_bytes: int) -> bytes:
    """Return one message of a batch, at most `size_bytes`."""
    view = event.incident
    properties = {
        "event_id": event.event_id,
        "incident": view.id,
        "kind": event.kind.value,
        "origin": view.origin,
        "schema": event.schema,
        "seq": str(event.seq),
        "severity": view.severity,
        "state": view.state.value,
        "tenant": event.tenant,
    }
    shell: dict[str, Any] = {
        "BrokerProperties": {"PartitionKey": _key(event)},
        "UserProperties": {
            name: clip(one_line(value), PROPERTY_CHARACTERS) for name, value in properties.items()
        },
    }
    room = size_bytes - len(encode(shell)) - len(b'"Body":"",')
    body = ""
    for share in SHARES:
        body = fit(event, int(room * share)).decode()
        if len(encode(body)) - len(b'""') <= room:
            break
    return encode(shell | {"Body": body})
