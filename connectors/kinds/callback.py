"""Kind `callback`: a signed HTTP POST per event, after Standard Webhooks v1.

The body is `{"type": "incident.<kind>", "timestamp": RFC 3339, "data": <tocsin.event/1>}`; `webhook-id` is
the event id and stays the same on every attempt, timestamp and signatures are made per attempt. Any 2xx is
success. With `format: cloudevents` it is the event in the envelope of CloudEvents 1.0 instead, signed alike.
What fails waits as the standard recommends; 410 alone means that the receiver wants no more.

A receiver behind a gateway that asks for a token gets one beside the signature: `jwt_key` makes a bearer token per
attempt, five minutes long, for this host, this event and this body. Rejected: the token instead of the signature,
which would be a scheme of our own.

Rule: the URL is treated as a secret (many carry a token in path or query); only scheme and host are stored. So a bearer
token does not tell it either: gateways log tokens, and answer with them.
Source: https://github.com/standard-webhooks/standard-webhooks, spec version 1.0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal

import msgspec
import pydantic
from typing_extensions import override

from bridge.model import Blocked, Event, Verdict
from bridge.ports import Caps, Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import encode, fit, judge_http, rfc3339
from connectors.credentials import (
    CA_FILE,
    KIND,
    SMALLEST_BYTES,
    CaFile,
    DestinationSettings,
    FromFile,
    Secret,
    SecretUrl,
    SecretUrlFromFile,
    SigningSecret,
    SigningSecretFromFile,
    TokenAlgorithm,
    bearer,
    check_token_key,
    origin,
    signatures,
)
from connectors.formats import cloudevents

GONE = 410
#: After each failure: 5 s, 5 min, 30 min, then 2, 5, 10, 14, 20, 24 h. Source: the spec, "Retry schedule".
WAITS_S = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
ENVELOPE_BYTES = 200  # room for type and timestamp around the event


class CallbackSettings(DestinationSettings):
    """Where to post and what to sign with; several keys apart by white space all sign (rotation)."""

    kind: Literal["callback"] = pydantic.Field(default="callback", description=KIND)
    url: SecretUrl | None = pydantic.Field(default=None, description="Where to post; a secret.")
    url_file: SecretUrlFromFile | None = pydantic.Field(
        default=None, description="File that holds the address, instead of `url`."
    )
    secret: SigningSecret | None = pydantic.Field(
        default=None, description="whsec_ and base64 of 24 to 64 bytes; several sign while rotating."
    )
    secret_file: SigningSecretFromFile | None = pydantic.Field(
        default=None, description="File that holds the signing secret, instead of `secret`."
    )
    format: Literal["event", "cloudevents"] = pydantic.Field(
        default="event",
        description="`event` ({type, timestamp, data} of Standard Webhooks) or `cloudevents` (structured JSON).",
    )
    jwt_key: Secret | None = pydantic.Field(
        default=None, description="Key of bearer tokens, for a receiver that asks for one too."
    )
    jwt_key_file: FromFile | None = pydantic.Field(
        default=None, description="File that holds the key of bearer tokens, instead of `jwt_key`."
    )
    jwt_algorithm: TokenAlgorithm = pydantic.Field(
        default="HS256", description="HS256 (a shared text), RS256 or EdDSA (a private key in PEM form)."
    )
    jwt_audience: str = pydantic.Field(
        default="",
        description="Claim `aud` of bearer tokens; empty for scheme, host and port of the address.",
    )
    max_bytes: int = pydantic.Field(
        default=256 * 1024,
        ge=SMALLEST_BYTES,
        description="Largest request in bytes; a larger event loses texts and alerts first.",
    )
    ca_file: CaFile = pydantic.Field(default="", description=CA_FILE)

    @override
    def required(self) -> frozenset[str]:
        return frozenset({"url", "secret"})

    @pydantic.model_validator(mode="after")
    def _key_of_its_algorithm(self) -> CallbackSettings:
        key = self.credential("jwt_key")
        if key is not None:
            check_token_key(key, self.jwt_algorithm)
        return self


class Callback(Connector):
    """Posts each event, signed."""

    Settings: ClassVar[type[CallbackSettings]] = CallbackSettings
    example: ClassVar[dict[str, Any]] = {
        "name": "automation",
        "kind": "callback",
        "url": "https://automation.example.com/hooks/tocsin",
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    caps = Caps(
        mode="every",
        max_events=1,
        max_bytes=256 * 1024,
        delivery_class="at least once, deduplicate on event_id",
        waits_s=WAITS_S,
    )

    def __init__(self, settings: CallbackSettings) -> None:
        self._settings = settings
        self.caps = msgspec.structs.replace(self.caps, max_bytes=settings.max_bytes)
        self._url = settings.needed("url")
        self._secret = settings.needed("secret")
        self._jwt_key = settings.credential("jwt_key")

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        event, room = events[0], min(max_bytes or self.caps.max_bytes, self.caps.max_bytes)
        is_wrapped = self._settings.format == "cloudevents"
        request = Http(
            method="POST",
            url=origin(self._url),
            headers={"content-type": cloudevents.CONTENT_TYPE if is_wrapped else "application/json"},
            body=cloudevents.structured(event, room) if is_wrapped else _standard(event, room),
        )
        return Rendered(request=request, event_ids=(event.event_id,), step=step)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdict = judge_http(response, (self._url, self._secret, self._jwt_key))
        if isinstance(response, HttpResponse) and response.status == GONE:
            verdict = Blocked(
                reason="HTTP 410: the endpoint has disabled this callback; remove or replace it",
                disabled=True,
            )
        return (verdict,) * len(rendered.event_ids)

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        if not isinstance(request, Http):
            return request
        headers = request.headers | signatures(self._secret, event_ids[0], now, request.body)
        if self._jwt_key is not None:
            audience = self._settings.jwt_audience or origin(self._url).rstrip("/")
            token = bearer(
                self._jwt_key, self._settings.jwt_algorithm, audience, event_ids[0], now, request.body
            )
            headers["authorization"] = f"Bearer {token}"
        return msgspec.structs.replace(
            request, url=self._url.reveal(), headers=headers, ca_file=self._settings.ca_file
        )


def _standard(event: Event, size_bytes: int) -> bytes:
    body = {
        "type": f"incident.{event.kind.value}",
        "timestamp": rfc3339(event.at),
        "data": msgspec.Raw(fit(event, size_bytes - ENVELOPE_BYTES)),
    }
    return encode(body)
