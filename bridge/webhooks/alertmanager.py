"""Alertmanager's webhook, version 4, as Alertmanager, Mimir and vmalert's Alertmanager send it.

Rules: `parse` raises nothing but `PayloadError`, and that only for what `envelope` refuses. An alert that
cannot be used becomes a `Fault` with its bytes; the others go on. After `MAX_FAULTS` of one webhook a last
fault says how many more there were: a person looks at a few. The status of an alert is its own `status`;
that of the body is never looked at (it lies when alerts were truncated). `endsAt` means nothing while an
alert fires, whatever it says; year 1, in any offset, is Go's "no time". Times are cut to microseconds.

Decision: the sender's fingerprint is believed when it looks like one, since computing it takes longer than
all the rest (about 80 ns a byte of labels). It identifies an alert within its source only, so that a source
that lies hurts nobody else.

Decision: annotations that are too long are cut, labels that are too long are a fault. Annotations are prose
for people and identify nothing; an alert must not go unheard for a talkative template. Labels cannot be cut
without becoming another alert.

Decision: a `groupKey` or `externalURL` of more than `MAX_TEXT` characters becomes a digest of itself. Both are only
compared, and each episode keeps its group: 300 kB of it, once in a webhook, would be written with every alert. Cut, two
groups could become one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

from bridge.errors import PayloadError
from bridge.model import Alert, Fault, Notification
from bridge.webhooks.envelope import opened

#: An alert up to this size is taken as it is (one from real rules has 0.6 to 9 kB).
MAX_ALERT_BYTES = 64 * 1024
#: In a larger alert: characters of all label names and values together, above which it is a fault.
MAX_LABELS = 64 * 1024
#: In a larger alert: characters of all annotation names and values together, above which they are cut.
MAX_ANNOTATIONS = 64 * 1024
#: Characters of a text around the alerts, above which it becomes a digest of itself.
MAX_TEXT = 4 * 1024
#: Earlier or later years are no times of alerts, and adding an interval to them must not overflow.
FIRST_YEAR, LAST_YEAR = 1970, 9000
CUT = " [cut by Tocsin]"
#: Unusable alerts of one webhook that are kept with their bytes; 64 MiB of them can be a hundred thousand.
MAX_FAULTS = 100

is_fingerprint = re.compile(r"[0-9a-f]{16}").fullmatch
_FNV_OFFSET, _FNV_PRIME = 14695981039346656037, 1099511628211


class _Sent(msgspec.Struct, frozen=True, gc=False):
    """An alert as sent; what only decorates it may be of any type."""

    status: str
    labels: dict[str, str]
    starts_at: str = msgspec.field(name="startsAt")
    annotations: dict[str, str] | None = None
    ends_at: Any = msgspec.field(default=None, name="endsAt")
    generator_url: Any = msgspec.field(default=None, name="generatorURL")
    fingerprint: Any = None


_alert_decoder = msgspec.json.Decoder(_Sent)


class UnusableError(Exception):
    """This alert cannot be used; the message says why."""


def parse(body: bytes, *, tenant: str, source: str) -> Notification:
    """Return the webhook in `body`. Up to `MAX_FAULTS` each alert is either among the `alerts` or the `faults`.

    Raises:
        PayloadError: The body can never be a webhook.
    """
    return parse_with(read_alert, body, tenant=tenant, source=source)


def parse_with(
    read: Callable[[msgspec.Raw, str, str], Alert], body: bytes, *, tenant: str, source: str
) -> Notification:
    """Return the webhook in `body`, each alert as `read` makes it of its JSON, tenant and source.

    Raises:
        PayloadError: The body can never be a webhook.
    """
    envelope = opened(body)
    alerts: list[Alert] = []
    faults: list[Fault] = []
    for raw in envelope.alerts:
        try:
            alerts.append(read(raw, tenant, source))
        except (msgspec.MsgspecError, UnusableError, UnicodeDecodeError) as error:
            if len(faults) < MAX_FAULTS:
                faults.append(Fault(reason=f"unusable alert: {error}", body=bytes(raw)))
    if more := len(envelope.alerts) - len(alerts) - len(faults):
        faults.append(Fault(reason=f"and {more} more unusable alerts of the same webhook", body=b""))
    return Notification(
        tenant=tenant,
        source=source,
        group_key=_text(envelope.group_key),
        external_url=_text(envelope.external_url),
        alerts=tuple(alerts),
        faults=tuple(faults),
    )


def check_usable(body: bytes) -> None:
    """Pass if at least one alert in `body` can be used.

    Raises:
        PayloadError: None can, or the body can never be a webhook.
    """
    found = parse(body, tenant="", source="")
    if not found.alerts:
        raise PayloadError(found.faults[0].reason if found.faults else "it holds no alert")


def fingerprint_of(labels: dict[str, str]) -> str:
    """Return the fingerprint that Alertmanager gives to `labels`: FNV-1a, 64 bits, 16 hex digits.

    Source: prometheus/common model/signature.go.
    """
    state = _FNV_OFFSET
    for name in sorted(labels):  # code-point order is UTF-8 byte order
        for byte in name.encode() + b"\xff" + labels[name].encode() + b"\xff":
            state = ((state ^ byte) * _FNV_PRIME) & 0xFFFF_FFFF_FFFF_FFFF
    return f"{state:016x}"


def read_alert(raw: msgspec.Raw, tenant: str, source: str) -> Alert:
    """Return one alert as it was sent.

    Raises:
        UnusableError: It cannot be used; MsgspecError or UnicodeDecodeError where it is not even of the form.
    """
    sent = _alert_decoder.decode(raw)
    firing = sent.status == "firing"
    if not firing and sent.status != "resolved":
        raise UnusableError("`status` is neither firing nor resolved")
    starts_at = moment(sent.starts_at, "startsAt")
    if starts_at is None:
        raise UnusableError(f"`startsAt` is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    labels, annotations, url = sent.labels, sent.annotations or {}, sent.generator_url
    if len(memoryview(raw)) > MAX_ALERT_BYTES:
        bound_labels(labels)
        annotations = cut(annotations)
        url = url if type(url) is str and len(url) <= MAX_ANNOTATIONS else ""
    given = sent.fingerprint
    known = type(given) is str and is_fingerprint(given)
    return Alert(
        tenant=tenant,
        source=source,
        fingerprint=given if known else fingerprint_of(labels),
        labels=labels,
        annotations=annotations,
        firing=firing,
        starts_at=starts_at,
        ends_at=None if firing else _end(sent.ends_at),
        generator_url=url if type(url) is str else "",
    )


def _end(sent: Any) -> datetime | None:
    """Return when a resolved alert ended; None if that was not told."""
    if sent is None:
        return None
    if type(sent) is not str:
        raise UnusableError("`endsAt` is not a string")
    return moment(sent, "endsAt")


def moment(sent: str, field: str) -> datetime | None:
    """Return `sent` in UTC; None outside the years in which alerts happen (as Go's zero time is).

    Raises:
        UnusableError: It is no time, or one without an offset.
    """
    try:
        time = datetime.fromisoformat(sent)
    except ValueError as error:
        raise UnusableError(f"`{field}` is not an RFC 3339 time") from error
    if time.tzinfo is None:
        raise UnusableError(f"`{field}` has no offset from UTC")
    # Asked before the conversion: year 1 with an offset has no UTC that Python can hold.
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        return None
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def bound_labels(labels: dict[str, str]) -> None:
    """Pass if labels are not too long.

    Raises:
        UnusableError: They are; cut they would be another alert.
    """
    size = sum(map(len, labels)) + sum(map(len, labels.values()))
    if size > MAX_LABELS:
        raise UnusableError(f"its labels have {size} characters, more than {MAX_LABELS}")


def cut(annotations: dict[str, str]) -> dict[str, str]:
    """Return the annotations in at most MAX_ANNOTATIONS characters: the first ones whole, then one cut."""
    left = MAX_ANNOTATIONS
    kept = {}
    for name, text in annotations.items():
        room = left - len(name)
        if room < len(CUT):
            break
        kept[name] = text if len(text) <= room else text[: room - len(CUT)] + CUT
        left = room - len(kept[name])
    return kept


def _text(raw: msgspec.Raw) -> str:
    """Return the string in `raw`, as `blake2b:` and 32 hex digits if it is too long; "" if it holds anything else."""
    try:
        text = msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return text if len(text) <= MAX_TEXT else f"blake2b:{blake2b(text.encode(), digest_size=16).hexdigest()}"
