"""Whether a body can ever be a webhook, decided in about a microsecond per alert, before the answer.

Rules: 400 (`PayloadError`) for what can never be good: not UTF-8, not JSON, not an object, no `alerts`
list, lone surrogates, a raw NUL or another raw control character, more than `MAX_DEPTH` levels or
`MAX_ALERTS` alerts. Everything else is taken: an empty `alerts`, unknown fields, another `version`,
duplicate keys (the last one counts, as in Go), numbers that no float can hold, alerts that are no objects.
A NUL written as an escape inside a string is a character like any other: Prometheus allows it, and an alert
is worth more than its tidiness.

Decision: the alerts stay `msgspec.Raw`. Reading them fully here would cost the intake more than half of its
throughput (63 % of it at 64 alerts a webhook), to find faults that do not change the answer.

Theory of operation. msgspec checks the JSON (escapes and surrogates included) while it skips over it, but
not UTF-8, and nesting only by its recursion limit. Depth is bounded in three steps, each dearer and rarer:
a text cannot be deeper than it has opening brackets, strings included; the same per handful of alerts; and
the exact count, by a walk over the brackets outside of strings. `bytes.replace` is how brackets are counted
because it hops with memchr: 0.1 ns a byte, where `bytes.count` takes 0.6.

A large body (above `LARGE_BYTES`) is walked before its alerts are told apart: a `Raw` costs 75 bytes, and
64 MiB can hold 32 million alerts of the form `0`. The walk goes piece by piece, so that it needs no memory
beside the body, and costs 5 ns a byte of a real body, up to 90 where nothing but brackets is sent. Whoever has an
event loop to keep going asks `is_large` and checks such a body elsewhere.
"""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, compress, islice
from typing import TypeVar

import msgspec

from bridge.errors import PayloadError

#: Levels of nesting. Alertmanager needs four; the rest is room for unknown fields.
MAX_DEPTH = 100
#: Alerts in one body. 64 MiB, the largest body, hold 75,000 real ones of 0.9 kB; 60,000 were seen in one group.
MAX_ALERTS = 100_000
#: Alerts counted at once. With three or four brackets each they stay far below MAX_DEPTH.
HANDFUL = 16
#: From here on a body is large: its check takes longer than an event loop should stand still.
LARGE_BYTES = 1 << 20
#: Large bodies are looked through in pieces, so that no second copy of 64 MiB is made.
PIECE_BYTES = 1 << 20
#: Pieces of the walk are small: of each opening quote it makes an object.
WALK_BYTES = 64 << 10

_NO_RAW = msgspec.Raw(b"null")
_ALL_BUT_MARKS = bytes(set(range(256)) - set(b'"[]{},'))
#: What a mark does to the depth, as a signed byte.
_STEPS = bytes.maketrans(b"[{]},", b"\x01\x01\xff\xff\x00")
_IS_COMMA = bytes(mark == ord(",") for mark in range(256))
_is_empty = re.compile(rb"\[\s*\]").fullmatch

Opened = TypeVar("Opened")


class OpenedBody(msgspec.Struct, frozen=True):
    """The outermost level of a webhook. What Tocsin does not use is passed over."""

    alerts: list[msgspec.Raw]
    group_key: msgspec.Raw = msgspec.field(default=_NO_RAW, name="groupKey")
    external_url: msgspec.Raw = msgspec.field(default=_NO_RAW, name="externalURL")


class _Outline(msgspec.Struct, frozen=True):
    """As much of a large body as is looked at before its alerts are told apart."""

    alerts: msgspec.Raw


_decoder = msgspec.json.Decoder(OpenedBody)
_outline_decoder = msgspec.json.Decoder(_Outline)


def is_large(body: bytes) -> bool:
    """Return whether a check of `body` may take longer than some 10 ms (64 MiB of nothing but brackets: 6 s)."""
    return len(body) > LARGE_BYTES


def check(body: bytes) -> int:
    """Return how many alerts `body` holds, good or bad.

    Raises:
        PayloadError: The body can never be a webhook.
    """
    return _checked_large(body) if is_large(body) else len(_opened_small(body).alerts)


def opened(body: bytes) -> OpenedBody:
    """Return the outermost level of `body`; the alerts are slices of it, checked to be JSON and no more.

    Raises:
        PayloadError: The body can never be a webhook.
    """
    if not is_large(body):
        return _opened_small(body)
    _checked_large(body)
    return _decoded(_decoder, body)


def _opened_small(body: bytes) -> OpenedBody:
    envelope = _decoded(_decoder, body)
    brackets = _opening(body)
    if brackets > MAX_DEPTH and _deeper_than_allowed(body, envelope.alerts, brackets):
        raise _too_deep()
    if len(envelope.alerts) > MAX_ALERTS:
        raise _too_many()
    return envelope


def _checked_large(body: bytes) -> int:
    """Return how many alerts a large body holds, without telling them apart."""
    alerts = memoryview(_decoded(_outline_decoder, body).alerts)
    if alerts[0] != ord("["):
        raise PayloadError("not an Alertmanager webhook: Expected `array` - at `$.alerts`")
    commas = 0
    for marks, depths in _walk(alerts):
        if max(depths, default=0) + 1 > MAX_DEPTH:
            raise _too_deep()
        commas += bytes(compress(depths, marks.translate(_IS_COMMA))).count(1)
        if commas >= MAX_ALERTS:
            raise _too_many()
    if _opening(body) - _opening(alerts) > MAX_DEPTH and _is_too_deep(body, MAX_DEPTH):
        raise _too_deep()
    return 0 if _is_empty(alerts) else commas + 1


def _decoded(decoder: msgspec.json.Decoder[Opened], body: bytes) -> Opened:
    try:
        envelope = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise PayloadError(f"not an Alertmanager webhook: {error}") from error
    except msgspec.DecodeError as error:
        raise PayloadError(f"not JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise PayloadError("not UTF-8") from error
    except RecursionError as error:
        raise _too_deep() from error
    if not (body.isascii() or is_utf8(body)):
        raise PayloadError("not UTF-8")
    return envelope


def _too_deep() -> PayloadError:
    return PayloadError(f"nested deeper than {MAX_DEPTH} levels")


def _too_many() -> PayloadError:
    return PayloadError(
        f"more than {MAX_ALERTS} alerts in one body: group by more labels, or set `max_alerts`"
    )


def is_utf8(body: bytes) -> bool:
    """Return whether `body` is UTF-8; one of any size needs no second copy."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in _pieces(body, PIECE_BYTES):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _pieces(text: bytes | memoryview, size: int) -> Iterator[bytes]:
    view = memoryview(text)
    return (bytes(view[start : start + size]) for start in range(0, len(view), size))


def _opening(text: bytes | memoryview) -> int:
    """Return how many opening brackets stand in `text`, strings included: no less than its depth."""
    if not isinstance(text, bytes) or len(text) > PIECE_BYTES:
        return sum(map(_opening, _pieces(text, PIECE_BYTES)))
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))


def _deeper_than_allowed(body: bytes, alerts: Sequence[msgspec.Raw], brackets: int) -> bool:
    outside = brackets
    left = iter(alerts)
    while handful := list(islice(left, HANDFUL)):
        text = b"".join(handful)
        inside = _opening(text)
        outside -= inside
        # Two levels, the object and its list, are around every alert.
        if inside + 2 > MAX_DEPTH and _is_too_deep(text, MAX_DEPTH - 2):
            return True
    return outside > MAX_DEPTH and _is_too_deep(body, MAX_DEPTH)


def _is_too_deep(text: bytes, allowed: int) -> bool:
    return any(max(depths, default=0) > allowed for _, depths in _walk(text))


def _walk(text: bytes | memoryview) -> Iterator[tuple[bytes, bytes]]:
    """Go through a JSON text: the brackets and commas outside of strings, and the depth after each of them.

    Raises:
        PayloadError: It is deeper than a byte can count.
    """
    depth, inside, torn = 0, 0, b""
    for piece in _pieces(text, WALK_BYTES):
        whole, torn = _untorn(torn + piece)
        # Escaped backslashes go first: then a backslash before a quote does escape it, and every quote that is
        # left begins or ends a string, so that every other part is outside of one. Two quotes side by side
        # change nothing for what follows.
        plain = whole.replace(rb"\\", b"").replace(rb"\"", b"")
        parts = plain.translate(None, _ALL_BUT_MARKS).replace(b'""', b"").split(b'"')
        marks = b"".join(parts[inside::2])
        inside ^= len(parts) - 1 & 1
        try:
            depths = bytes(accumulate(array("b", marks.translate(_STEPS)), initial=depth))[1:]
        except ValueError as error:
            raise _too_deep() from error
        depth = depths[-1] if depths else depth
        yield marks, depths


def _untorn(text: bytes) -> tuple[bytes, bytes]:
    """Return `text` without a backslash at its end whose character is still to come, and that backslash."""
    is_torn = (len(text) - len(text.rstrip(b"\\"))) % 2 == 1
    return (text[:-1], text[-1:]) if is_torn else (text, b"")
