"""Alertmanager's API, version 2: what `GET /api/v2/alerts`, `/status` and `/receivers` answer.

Rules: those of `alertmanager`. An alert that cannot be used is a `Fault` with its bytes, the others go on. The list
holds what fires now and nothing of what is over: an alert that is not in it has ended, for that Alertmanager. Its
times have milliseconds, those of a webhook have more.

Decision: `endsAt` is not read. It is when the alert would expire if nothing more came, four minutes from the last send,
so it says nothing about an end and changes all the time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from bridge.errors import PayloadError
from bridge.model import Fault, Listed, Listing, Suppression
from bridge.webhooks.alertmanager import (
    FIRST_YEAR,
    LAST_YEAR,
    MAX_ALERT_BYTES,
    MAX_ANNOTATIONS,
    MAX_FAULTS,
    UnusableError,
    bound_labels,
    cut,
    fingerprint_of,
    is_fingerprint,
    moment,
)
from bridge.webhooks.envelope import MAX_ALERTS, is_utf8

_UNPROCESSED = "unprocessed"


class _Receiver(msgspec.Struct, frozen=True):
    name: str


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    state: str = ""
    silenced_by: list[Any] | None = None
    inhibited_by: list[Any] | None = None
    muted_by: list[Any] | None = None


class _Sent(msgspec.Struct, frozen=True, rename="camel"):
    labels: dict[str, str]
    starts_at: str
    annotations: dict[str, str] | None = None
    generator_url: Any = msgspec.field(default=None, name="generatorURL")
    fingerprint: Any = None
    status: _Status = _Status()
    receivers: list[_Receiver] | None = None


class _About(msgspec.Struct, frozen=True):
    uptime: str  # when it started, not for how long it has run


_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_alert_decoder = msgspec.json.Decoder(_Sent)
_receivers_decoder = msgspec.json.Decoder(list[_Receiver])
_about_decoder = msgspec.json.Decoder(_About)


def parse_listing(body: bytes) -> Listing:
    """Return what `GET /api/v2/alerts` answered; of alerts with one fingerprint the last one counts.

    Raises:
        PayloadError: It is no list of alerts, or one of more than `MAX_ALERTS`.
    """
    raws = _decoded(_list_decoder, body, "a list of alerts")
    if len(raws) > MAX_ALERTS:
        raise PayloadError(f"more than {MAX_ALERTS} alerts are listed")
    alerts: dict[str, Listed] = {}
    faults: list[Fault] = []
    unusable = 0
    for raw in raws:
        try:
            alert = _listed(raw)
        except (msgspec.MsgspecError, UnusableError, UnicodeDecodeError) as error:
            unusable += 1
            if len(faults) < MAX_FAULTS:
                faults.append(Fault(reason=f"unusable alert in a list: {error}", body=bytes(raw)))
        else:
            alerts[alert.fingerprint] = alert
    if more := unusable - len(faults):
        faults.append(Fault(reason=f"and {more} more unusable alerts of the same list", body=b""))
    return Listing(alerts=tuple(alerts.values()), faults=tuple(faults))


def parse_start(body: bytes) -> datetime:
    """Return when an Alertmanager started, of what `GET /api/v2/status` answered.

    Raises:
        PayloadError: It does not say so.
    """
    about = _decoded(_about_decoder, body, "the status of an Alertmanager")
    try:
        started_at = moment(about.uptime, "uptime")
    except UnusableError as error:
        raise PayloadError(str(error)) from error
    if started_at is None:
        raise PayloadError(f"`uptime` is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    return started_at


def parse_receivers(body: bytes) -> tuple[str, ...]:
    """Return the names of an Alertmanager's receivers, of what `GET /api/v2/receivers` answered.

    Raises:
        PayloadError: It does not say so.
    """
    return tuple(receiver.name for receiver in _decoded(_receivers_decoder, body, "a list of receivers"))


def _listed(raw: msgspec.Raw) -> Listed:
    sent = _alert_decoder.decode(raw)
    starts_at = moment(sent.starts_at, "startsAt")
    if starts_at is None:
        raise UnusableError(f"`startsAt` is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    annotations, url = sent.annotations or {}, sent.generator_url
    if len(memoryview(raw)) > MAX_ALERT_BYTES:
        bound_labels(sent.labels)
        annotations = cut(annotations)
        url = url if type(url) is str and len(url) <= MAX_ANNOTATIONS else ""
    given = sent.fingerprint
    known = type(given) is str and is_fingerprint(given)
    return Listed(
        fingerprint=given if known else fingerprint_of(sent.labels),
        labels=sent.labels,
        annotations=annotations,
        generator_url=url if type(url) is str else "",
        starts_at=starts_at,
        suppressed=_suppression(sent.status),
        unprocessed=sent.status.state == _UNPROCESSED,
        receivers=tuple(receiver.name for receiver in sent.receivers or ()),
    )


def _suppression(status: _Status) -> Suppression:
    if status.silenced_by:
        return "silenced"
    if status.inhibited_by:
        return "inhibited"
    return "muted" if status.muted_by or status.state == "suppressed" else ""


def _decoded(decoder: msgspec.json.Decoder[Any], body: bytes, what: str) -> Any:
    try:
        found = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise PayloadError(f"not {what}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise PayloadError("nested too deeply") from error
    if not (body.isascii() or is_utf8(body)):
        raise PayloadError("not UTF-8")
    return found
