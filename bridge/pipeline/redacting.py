"""Redacting: a row as it may be thought about and kept.

Rules: every row goes through here before anything else looks at it, and what comes out is what the history keeps, so
that a replay of it begins where thinking began. Which `Redact` acts is said by the settings in force at the row; the
rest is a pure function of its bytes and of the key. A kind of rows that holds nothing but what was understood before
(vectors, families, verdicts) or was configured (settings, topologies) is left alone.

What cannot be parsed is redacted as text, by what is found in it and by names that stand before a value; what killed
whoever parsed it is so from the beginning.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from bridge.analysis.feedback import Feedback
from bridge.analysis.rounds import Found, Standing, Unusable
from bridge.analysis.samples import Samples
from bridge.analysis.settings import AnalysisSettings
from bridge.errors import PayloadError
from bridge.model import InboxRow, RowKind
from bridge.redaction import NO_KEY, Redactor, Redactors
from bridge.webhooks.recorder import redacted_record
from bridge.webhooks.redacting import redacted, redacted_text

_encode = msgspec.json.encode


class Redacting:
    """Redacts the rows of all tenants. It outlives the state, and is no part of it."""

    def __init__(self, master: bytes = NO_KEY) -> None:
        """Take the key that the keys of all tenants are derived from."""
        self._redactors = Redactors(master)

    def of(self, settings: AnalysisSettings, tenant: str) -> Redactor:
        """Return a tenant's redactor under these settings."""
        return self._redactors.of(tenant, settings.redact_of(tenant))

    def row(self, row: InboxRow, settings: AnalysisSettings) -> InboxRow:
        """Return a row as it may be thought about and kept; never raises."""
        change = _KINDS.get(row.kind)
        if change is None:
            return row
        redactor = self.of(settings, row.tenant)
        try:
            body = change(row.body, redactor)
        except (PayloadError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, binascii.Error):
            body = redacted_text(row.body, redactor)
        return row if body is row.body else replace(row, body=body)

    def unread(self, row: InboxRow, settings: AnalysisSettings) -> InboxRow:
        """Return a row as it may be kept that nobody can read: what strangers sent is not parsed."""
        if row.kind not in _SENT:
            return self.row(row, settings)
        return replace(row, body=redacted_text(row.body, self.of(settings, row.tenant)))


def _rejected(body: bytes, redactor: Redactor) -> bytes:
    told = msgspec.json.decode(body, type=_Rejected)
    content = redacted_text(base64.b64decode(told.body_base64), redactor)
    return _encode(
        _Rejected(reason=redactor.text(told.reason), body_base64=base64.b64encode(content).decode())
    )


class _Rejected(msgspec.Struct):
    reason: str
    body_base64: str


def _feedback(body: bytes, redactor: Redactor) -> bytes:
    told = msgspec.json.decode(body, type=Feedback)
    return _encode(replace(told, text=redactor.text(told.text), author=redactor.text(told.author)))


def _samples(body: bytes, redactor: Redactor) -> bytes:
    told = msgspec.json.decode(body, type=Samples)
    return _encode(
        replace(told, lines=tuple(replace(line, labels=redactor.labels(line.labels)) for line in told.lines))
    )


def _found(body: bytes, redactor: Redactor) -> bytes:
    told = msgspec.json.decode(body, type=Found)
    return _encode(
        replace(
            told,
            silent=tuple(map(redactor.text, told.silent)),
            listed=tuple(_standing(each, redactor) for each in told.listed),
            unusable=tuple(_unusable(each, redactor) for each in told.unusable),
        )
    )


def _standing(each: Standing, redactor: Redactor) -> Standing:
    content = each.content
    if content is None:
        return each
    follow = redactor.followed(content.labels)
    left = replace(
        content,
        labels=redactor.labels(content.labels),
        annotations=redactor.annotations(content.annotations, follow),
        generator_url=redactor.text(follow(content.generator_url)),
    )
    return replace(each, content=left)


def _unusable(each: Unusable, redactor: Redactor) -> Unusable:
    body = redacted_text(base64.b64decode(each.body_base64), redactor)
    return Unusable(reason=redactor.text(each.reason), body_base64=base64.b64encode(body).decode())


_KINDS: dict[RowKind, Callable[[bytes, Redactor], bytes]] = {
    RowKind.WEBHOOK: redacted,
    RowKind.GRAFANA: redacted,
    RowKind.RECORDED: redacted_record,
    RowKind.FOUND: _found,
    RowKind.SAMPLES: _samples,
    RowKind.FEEDBACK: _feedback,
    RowKind.REJECTED: _rejected,
}
#: Of these the body is what somebody else sent, the others are written by ourselves.
_SENT = frozenset({RowKind.WEBHOOK, RowKind.GRAFANA, RowKind.RECORDED})
