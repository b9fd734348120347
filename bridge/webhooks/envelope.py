"""Whether a body can ever be a webhook, decided in about a microsecond per alert, before the answer.

Rules: 400 (`PayloadError`) for what can never be good: not UTF-8, not JSON, not an object, no `alerts`
list, lone surrogates, a raw NUL or another raw control character, more than `MAX_DEPTH` levels. Everything
else is taken: an empty `alerts`, unknown fields, another `version`, duplicate keys (the last one counts, as
in Go), numbers that no float can hold, alerts that are no objects. A NUL written as an escape inside a
string is a character like any other: Prometheus allows it, and an alert is worth more than its tidiness.

Decision: the alerts stay `msgspec.Raw`. Reading them fully here would cost the intake more than half of its
throughput (63 % of it at 64 alerts a webhook), to find faults that do not change the answer.

Theory of operation. msgspec checks the JSON (escapes and surrogates included) while it skips over it, but
not UTF-8, and nesting only by its recursion limit. Depth is bounded in three steps, each dearer and rarer:
a text cannot be deeper than it has opening brackets, strings included; the same per handful of alerts; and
the exact count, with strings taken out. `bytes.replace` is how brackets are counted because it hops with
memchr: 0.1 ns a byte, where `bytes.count` takes 0.6 and a loop 20.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from itertools import islice

import msgspec

from bridge.errors import PayloadError
from bridge.model import Word

#: Levels of nesting. Alertmanager needs four; the rest is room for unknown fields.
MAX_DEPTH = 100
#: Alerts counted at once. With three or four brackets each they stay far below MAX_DEPTH.
HANDFUL = 16
#: Large bodies are looked through in pieces, so that no second copy of 64 MiB is made.
PIECE_BYTES = 1 << 20

_NO_RAW = msgspec.Raw(b"null")
_TO_CURLY = bytes.maketrans(b"[]", b"{}")
_ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))


class Envelope(Word, frozen=True, kw_only=True):
    """What is known of a good body before its alerts are read."""

    alerts: int


class OpenedBody(msgspec.Struct, frozen=True):
    """The outermost level of a webhook. What Tocsin does not use is passed over."""

    alerts: list[msgspec.Raw]
    receiver: msgspec.Raw = _NO_RAW
    group_key: msgspec.Raw = msgspec.field(default=_NO_RAW, name="groupKey")
    external_url: msgspec.Raw = msgspec.field(default=_NO_RAW, name="externalURL")
    truncated_alerts: msgspec.Raw = msgspec.field(default=_NO_RAW, name="truncatedAlerts")


_decoder = msgspec.json.Decoder(OpenedBody)


def check(body: bytes) -> Envelope:
    """Return how many alerts `body` holds, good or bad.

    Raises:
        PayloadError: The body can never be a webhook.
    """
    return Envelope(alerts=len(opened(body).alerts))


def opened(body: bytes) -> OpenedBody:
    """Return the outermost level of `body`; the alerts are slices of it, checked to be JSON and no more.

    Raises:
        PayloadError: The body can never be a webhook.
    """
    try:
        envelope = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise PayloadError(f"not an Alertmanager webhook: {error}") from error
    except msgspec.DecodeError as error:
        raise PayloadError(f"not JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise PayloadError("not UTF-8") from error
    except RecursionError as error:
        raise _too_deep() from error
    if not (body.isascii() or _is_utf8(body)):
        raise PayloadError("not UTF-8")
    brackets = _opening(body)
    if brackets > MAX_DEPTH and _deeper_than_allowed(body, envelope.alerts, brackets):
        raise _too_deep()
    return envelope


def _too_deep() -> PayloadError:
    return PayloadError(f"nested deeper than {MAX_DEPTH} levels")


def _is_utf8(body: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), PIECE_BYTES):
            decoder.decode(body[start : start + PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _opening(text: bytes) -> int:
    """Return how many opening brackets stand in `text`, strings included: no less than its depth."""
    if len(text) > PIECE_BYTES:
        return sum(_opening(text[at : at + PIECE_BYTES]) for at in range(0, len(text), PIECE_BYTES))
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))


def _deeper_than_allowed(body: bytes, alerts: Sequence[msgspec.Raw], brackets: int) -> bool:
    outside = brackets
    left = iter(alerts)
    while handful := list(islice(left, HANDFUL)):
        text = b"".join(handful)
        inside = _opening(text)
        outside -= inside
        # Two levels, the object and its list, are around every alert.
        if inside + 2 > MAX_DEPTH and _depth(text) + 2 > MAX_DEPTH:
            return True
    return outside > MAX_DEPTH and _depth(body) > MAX_DEPTH


def _depth(text: bytes) -> int:
    """Return how deep the JSON in `text` is, at most MAX_DEPTH + 1."""
    # Escaped backslashes go first: then a backslash before a quote does escape it, and every quote that is
    # left begins or ends a string, so that every other part is outside of one.
    plain = text.replace(rb"\\", b"").replace(rb"\"", b"")
    parts = plain.translate(_TO_CURLY, _ALL_BUT_STRUCTURE).split(b'"')
    structure = b"".join(parts[::2])
    depth = 0
    while structure and depth <= MAX_DEPTH:
        structure = structure.replace(b"{}", b"")
        depth += 1
    return depth
