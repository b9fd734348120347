"""A webhook without what is to be taken out of it: bytes in, bytes out.

Rules: what comes out has the form of a webhook, and whoever parses it finds the alerts that were in it, each under the
fingerprint that it had: it is written down before labels change, so that a resolve finds its firing. An alert in which
something may have to be taken out is written anew, with what is read here and nothing else; the others stay as they
are, byte for byte. An alert that cannot be used stays one that cannot, as text without what is found in it. Redacting
twice is redacting once, to the byte.

Decision: bytes rather than a parsed `Notification`. What is kept for a replay, what is thought and what is put into
quarantine are then one thing, and nothing behind this has to know what was taken out. It costs writing and reading each
alert that is changed once more, some microseconds (`benchmarks/redaction.py`).

Decision: one look over the bytes says of nearly all webhooks that they hold nothing, before anything is decoded. That
look is allowed to be wrong in one direction only; a test holds it against the thorough one.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from bridge.redaction import Redactor
from bridge.webhooks.alertmanager import MAX_FAULTS, fingerprint_of, is_fingerprint
from bridge.webhooks.envelope import opened
from bridge.webhooks.grafana import MAX_VALUES

_is_time = re.compile(r"[0-9]{4}[0-9T:.Zz+-]{6,36}").fullmatch
_STATUS = frozenset({"firing", "resolved"})


class _Alert(msgspec.Struct, omit_defaults=True, gc=False):
    """All that is read of an alert, whoever sends it."""

    status: str
    labels: dict[str, str]
    starts_at: str = msgspec.field(name="startsAt")
    annotations: dict[str, str] | None = None
    ends_at: Any = msgspec.field(default=None, name="endsAt")
    generator_url: Any = msgspec.field(default=None, name="generatorURL")
    fingerprint: Any = None
    dashboard_url: Any = msgspec.field(default=None, name="dashboardURL")
    panel_url: Any = msgspec.field(default=None, name="panelURL")
    silence_url: Any = msgspec.field(default=None, name="silenceURL")
    image_url: Any = msgspec.field(default=None, name="imageURL")
    values: Any = None


class _Webhook(msgspec.Struct, omit_defaults=True):
    alerts: list[Any]
    group_key: str = msgspec.field(default="", name="groupKey")
    external_url: str = msgspec.field(default="", name="externalURL")


_URLS = ("generator_url", "dashboard_url", "panel_url", "silence_url", "image_url")
_alert_decoder = msgspec.json.Decoder(_Alert)
_text_decoder = msgspec.json.Decoder(str)
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
_encode = msgspec.json.Encoder().encode


def redacted(body: bytes, redactor: Redactor) -> bytes:
    """Return the webhook in `body`, redacted.

    Raises:
        PayloadError: The body can never be a webhook.
    """
    if not redactor.may_change(body):
        return body
    envelope = opened(body)
    alerts: list[Any] = []
    unusable = 0
    for raw in envelope.alerts:
        if not redactor.may_change(bytes(raw)):
            alerts.append(raw)
            continue
        try:
            sent = _alert_decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            unusable += 1  # more than so many are counted, and not looked at
            alerts.append(_unusable(bytes(raw), redactor) if unusable <= MAX_FAULTS else None)
        else:
            _redact(sent, redactor)
            alerts.append(sent)
    return _encode(
        _Webhook(
            alerts=alerts,
            group_key=redactor.group_key(_text(envelope.group_key)),
            external_url=redactor.text(_text(envelope.external_url)),
        )
    )


def redacted_text(body: bytes, redactor: Redactor) -> bytes:
    """Return bytes that cannot, or must not, be parsed, without what is found in them.

    Bytes that are no UTF-8 stay what they are where nothing is found.
    """
    text = body.decode("utf-8", "surrogateescape")
    if text.isascii() or not _has_surrogates(text):
        return redactor.raw(text).encode()
    # As Latin-1 each byte is a character; what is looked for is ASCII.
    return redactor.raw(body.decode("latin-1")).encode("latin-1", "replace")


def _redact(sent: _Alert, redactor: Redactor) -> None:
    if not (type(sent.fingerprint) is str and is_fingerprint(sent.fingerprint)):
        sent.fingerprint = fingerprint_of(sent.labels)
    follow = redactor.followed(sent.labels)
    sent.labels = redactor.labels(sent.labels)
    if sent.annotations is not None:
        sent.annotations = redactor.annotations(sent.annotations, follow)
    for name in _URLS:
        url = getattr(sent, name)
        setattr(sent, name, redactor.text(follow(url)) if type(url) is str else None)
    if sent.status not in _STATUS:
        sent.status = redactor.text(sent.status)
    if not _is_time(sent.starts_at):
        sent.starts_at = redactor.text(sent.starts_at)
    if type(sent.ends_at) is not str:
        sent.ends_at = None if sent.ends_at is None else 0  # of the wrong type, whatever it was
    elif not _is_time(sent.ends_at):
        sent.ends_at = redactor.text(sent.ends_at)
    sent.values = _values(sent.values, redactor)


def _values(sent: object, redactor: Redactor) -> dict[str, int | float] | None:
    """Return the numbers among the values; None where they are not told of."""
    if type(sent) is not dict or len(sent) > MAX_VALUES:
        return None
    return {
        redactor.text(name): value
        for name, value in sent.items()
        if (type(value) is int and abs(value) < 1 << 1000) or (type(value) is float and math.isfinite(value))
    } or None


def _unusable(raw: bytes, redactor: Redactor) -> object:
    """Return an alert that is none, as JSON; as a string where redacting made it something else."""
    text = redacted_text(raw, redactor)
    try:
        return _raw_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return text.decode("utf-8", "replace")


def _text(raw: msgspec.Raw) -> str:
    try:
        return _text_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
