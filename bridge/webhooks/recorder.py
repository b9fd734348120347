"""Alertmanager's event recorder (0.33 and later): what happened to an alert, silences and inhibition included.

Rules: a body is one event or, with `batch: true`, a list of them. An event that cannot be used is a `Fault` with its
bytes; one of a kind that is not known, or that says nothing about an alert, is only counted. Labels come as a list of
`{key, value}`, and a fingerprint as the decimal digits of the 64 bits that a webhook writes in 16 hex digits. Events
may come twice (a batch is sent again whole) and out of order (several workers send).

`redacted_record` leaves of an event what is read here: its kind, whose alert it is and when it ended.

Decision: labels that came twice are a fault rather than the last of them: nobody knows which alert it is.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from bridge.errors import PayloadError
from bridge.model import Alert, Fault, Suppression, Word
from bridge.redaction import Redactor
from bridge.webhooks.alertmanager import (
    FIRST_YEAR,
    LAST_YEAR,
    MAX_ALERT_BYTES,
    MAX_FAULTS,
    UnusableError,
    bound_labels,
    cut,
    fingerprint_of,
    moment,
)
from bridge.webhooks.envelope import MAX_ALERTS, is_utf8
from bridge.webhooks.redacting import redacted_text

#: Every kind of event there is, as `data` names it; metrics know these and `other`.
Kind = Literal[
    "alertCreated", "alertGrouped", "alertResolved", "notification", "silenceCreated", "silenceUpdated",
    "silenceMutedAlert", "inhibitionMutedAlert", "alertmanagerStartupEvent", "alertmanagerShutdownEvent", "other",
]  # fmt: skip
KINDS: frozenset[str] = frozenset(get_args(Kind))
_MUTED: dict[str, Suppression] = {"silenceMutedAlert": "silenced", "inhibitionMutedAlert": "inhibited"}
_RESOLVED = "alertResolved"


class Held(Word, frozen=True, kw_only=True):
    """An alert fires, and Alertmanager did not tell of it."""

    fingerprint: str
    labels: dict[str, str]
    by: Suppression


class Record(Word, frozen=True, kw_only=True):
    """What one body of the recorder says."""

    counts: dict[str, int]  # how many events of each `Kind`
    held: tuple[Held, ...] = ()
    resolved: tuple[Alert, ...] = ()
    peer: str = ""  # the instance that recorded it
    faults: tuple[Fault, ...] = ()


class _Pair(msgspec.Struct, frozen=True):
    key: str
    value: str = ""  # protobuf leaves out what is empty


class _Labels(msgspec.Struct, frozen=True):
    labels: list[_Pair] = []


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    labels: _Labels
    fingerprint: Any = None
    annotations: _Labels = _Labels()
    starts_at: str = ""
    ends_at: str = ""


class _Grouped(msgspec.Struct, frozen=True):
    details: _Details


class _Resolved(msgspec.Struct, frozen=True):
    alert: _Grouped


class _Muted(msgspec.Struct, frozen=True, rename="camel"):
    muted_alert: _Details


class _Event(msgspec.Struct, frozen=True):
    data: dict[str, msgspec.Raw]
    instance: Any = None


class _Findings:
    """What was found in the events so far."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.held: list[Held] = []
        self.resolved: list[Alert] = []
        self.peer = ""


_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_event_decoder = msgspec.json.Decoder(_Event)
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
_muted_decoder = msgspec.json.Decoder(_Muted)
_resolved_decoder = msgspec.json.Decoder(_Resolved)


def check_record(body: bytes) -> int:
    """Return how many events `body` holds, good or bad.

    Raises:
        PayloadError: It can never be what the event recorder sends.
    """
    return len(_events(body))


def parse_record(body: bytes, *, tenant: str, source: str) -> Record:
    """Return what the events in `body` say. What is wrong in one of them costs that one alone.

    Raises:
        PayloadError: It can never be what the event recorder sends.
    """
    found = _Findings()
    faults: list[Fault] = []
    unusable = 0
    for raw in _events(body):
        try:
            _read(raw, found, tenant, source)
        except (msgspec.MsgspecError, UnusableError, UnicodeDecodeError, RecursionError) as error:
            unusable += 1
            if len(faults) < MAX_FAULTS:
                faults.append(Fault(reason=f"unusable event of the recorder: {error}", body=bytes(raw)))
    if more := unusable - len(faults):
        faults.append(Fault(reason=f"and {more} more unusable events of the same request", body=b""))
    return Record(
        counts=found.counts, held=tuple(found.held), resolved=tuple(found.resolved), peer=found.peer,
        faults=tuple(faults),
    )  # fmt: skip


def redacted_record(body: bytes, redactor: Redactor) -> bytes:
    """Return what the events in `body` say, redacted, in the form in which it came; see `redacting.redacted`.

    Raises:
        PayloadError: It can never be what the event recorder sends.
    """
    kept: list[Any] = []
    unusable = 0
    for raw in _events(body):
        try:
            kept.append(_redacted(_event_decoder.decode(raw), redactor))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            unusable += 1
            text = redacted_text(bytes(raw), redactor) if unusable <= MAX_FAULTS else b"null"
            try:
                kept.append(_raw_decoder.decode(text))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                kept.append(text.decode("utf-8", "replace"))
    return msgspec.json.encode(kept)


def _redacted(event: _Event, redactor: Redactor) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for number, (kind, what) in enumerate(event.data.items()):
        if kind in _MUTED:
            data[kind] = {"mutedAlert": _redacted_details(_muted_decoder.decode(what).muted_alert, redactor)}
        elif kind == _RESOLVED:
            details = _redacted_details(_resolved_decoder.decode(what).alert.details, redactor)
            data[kind] = {"alert": {"details": details}}
        else:
            data[kind if kind in KINDS else f"other {number}"] = {}
    kept: dict[str, Any] = {"data": data}
    return kept | ({"instance": redactor.text(event.instance)} if type(event.instance) is str else {})


def _redacted_details(details: _Details, redactor: Redactor) -> dict[str, Any]:
    labels = {pair.key: pair.value for pair in details.labels.labels}
    follow = redactor.followed(labels)
    told = {pair.key: pair.value for pair in details.annotations.labels}
    each = (redactor.labels({pair.key: pair.value}) for pair in details.labels.labels)
    return {
        # One by one: a label that stands there twice is a fault, and stays one.
        "labels": {"labels": [pair for one in each for pair in _pairs(one)]},
        "annotations": {"labels": _pairs(redactor.annotations(told, follow))},
        "fingerprint": str(int(_fingerprint(details, labels), 16)),
        "startsAt": redactor.text(details.starts_at),
        "endsAt": redactor.text(details.ends_at),
    }


def _pairs(labels: dict[str, str]) -> list[dict[str, str]]:
    """Return labels as the recorder writes them."""
    return [{"key": name, "value": value} for name, value in labels.items()]


def _events(body: bytes) -> list[msgspec.Raw]:
    try:
        if body.lstrip()[:1] == b"[":
            events = _list_decoder.decode(body)
        else:
            _event_decoder.decode(body)
            events = [msgspec.Raw(body)]
    except msgspec.ValidationError as error:
        raise PayloadError(f"not what Alertmanager's event recorder sends: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(f"not JSON: {error}") from error
    except RecursionError as error:
        raise PayloadError("nested too deeply") from error
    if not (body.isascii() or is_utf8(body)):
        raise PayloadError("not UTF-8")
    if len(events) > MAX_ALERTS:
        raise PayloadError(f"more than {MAX_ALERTS} events in one body")
    return events


def _read(raw: msgspec.Raw, found: _Findings, tenant: str, source: str) -> None:
    event = _event_decoder.decode(raw)
    for kind, what in event.data.items():
        if kind in _MUTED:
            muted = _muted_decoder.decode(what).muted_alert
            labels = _labels(muted.labels, len(memoryview(raw)))
            fingerprint = _fingerprint(muted, labels)
            found.held.append(Held(fingerprint=fingerprint, labels=labels, by=_MUTED[kind]))
        elif kind == _RESOLVED:
            details = _resolved_decoder.decode(what).alert.details
            found.resolved.append(_resolved(details, len(memoryview(raw)), tenant, source))
            found.peer = event.instance if type(event.instance) is str else found.peer
        counted = kind if kind in KINDS else "other"
        found.counts[counted] = found.counts.get(counted, 0) + 1


def _resolved(details: _Details, size_bytes: int, tenant: str, source: str) -> Alert:
    starts_at, ends_at = moment(details.starts_at, "startsAt"), moment(details.ends_at, "endsAt")
    if starts_at is None or ends_at is None:
        raise UnusableError(f"its times are not in the years {FIRST_YEAR} to {LAST_YEAR}")
    labels = _labels(details.labels, size_bytes)
    return Alert(
        tenant=tenant,
        source=source,
        fingerprint=_fingerprint(details, labels),
        labels=labels,
        annotations=cut({pair.key: pair.value for pair in details.annotations.labels}),
        firing=False,
        starts_at=starts_at,
        ends_at=ends_at,
    )


def _labels(sent: _Labels, size_bytes: int) -> dict[str, str]:
    labels = {pair.key: pair.value for pair in sent.labels}
    if len(labels) != len(sent.labels):
        raise UnusableError("a label stands there twice")
    if size_bytes > MAX_ALERT_BYTES:
        bound_labels(labels)
    return labels


def _fingerprint(details: _Details, labels: dict[str, str]) -> str:
    """Return the fingerprint as a webhook writes it; that of the labels where none was sent that can be one."""
    given = details.fingerprint
    if type(given) is str and given.isascii() and given.isdecimal() and len(given) <= len(str(1 << 64)):
        number = int(given)
        if number < 1 << 64:
            return f"{number:016x}"
    return fingerprint_of(labels)
