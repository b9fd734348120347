"""The mail itself: its headers and its two parts, as the bytes that go over the wire.

Decision: written by hand rather than by `email.message`. That draws the boundary between parts by chance, and takes a
millisecond; these are the same bytes for the same event in a tenth of it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import b2a_qp
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

from bridge.model import Event
from connectors.common import OVER, clip, one_line
from connectors.kinds.email.parts import html, letter, text, title_of

LINE = "\r\n"
SUBJECT_CHARACTERS = 180
WORD_BYTES = 45  # of text in one encoded word; base64 makes 60 of it, and a word has 75 at most
LISTED = 25


def message_id(event: Event, domain: str) -> str:
    """Return the id of the mail about this event, with its angle brackets."""
    return f"<{_atom(event.incident.id)}.{event.seq}@{domain}>"


def subject_of(event: Event) -> str:
    """Return the subject under which everything about an incident goes."""
    return clip(f"[{event.incident.severity}] {title_of(event)}", SUBJECT_CHARACTERS)


def messages(
    event: Event, *, sender: str, recipients: Sequence[str], root: str, subject: str
) -> Iterator[bytes]:
    """Yield the whole mail, the longest first; the last has little more than title, ids and counts, and no HTML.

    `root` is the id of the first mail about the incident, "" if this is it; `subject` is that one's.
    """
    head = LINE.join(f"{name}: {value}" for name, value in _headers(event, sender, recipients, root, subject))
    for listed in (LISTED, LISTED // 4, 0):
        yield _assembled(head, event, listed)


def _headers(
    event: Event, sender: str, recipients: Sequence[str], root: str, subject: str
) -> Iterator[tuple[str, str]]:
    view, own = event.incident, message_id(event, sender.rpartition("@")[2])
    yield "From", f"Tocsin <{sender}>"
    yield "To", f",{LINE} ".join(recipients)
    yield "Subject", header(subject if root in {"", own} else f"Re: {subject}")
    yield "Date", format_datetime(_whole(event.at))
    yield "Message-ID", own
    if root not in {"", own}:
        yield "In-Reply-To", root
        yield "References", root
    yield "Auto-Submitted", "auto-generated"
    if view.severity == "critical" and view.state not in OVER:
        yield "Importance", "high"
        yield "X-Priority", "1"
    yield "X-Tocsin-Event", event.event_id
    yield "X-Tocsin-Incident", header(clip(view.id, 100))
    yield "X-Tocsin-Kind", event.kind.value
    yield "X-Tocsin-Severity", view.severity
    yield "X-Tocsin-Tenant", header(clip(event.tenant, 100))


def _assembled(head: str, event: Event, listed: int) -> bytes:
    boundary = f"=_{event.event_id}"
    head = f"{head}{LINE}MIME-Version: 1.0{LINE}"
    said = letter(event, listed)
    plain = _part("plain", text(said))
    if not listed:  # there is no room for saying it twice
        return head.encode("ascii") + plain
    head += f'Content-Type: multipart/alternative;{LINE} boundary="{boundary}"{LINE}{LINE}'
    opening, end = f"--{boundary}{LINE}".encode(), f"--{boundary}--{LINE}".encode()
    return b"".join([head.encode("ascii"), opening, plain, opening, _part("html", html(said)), end])


def _part(kind: str, words: str) -> bytes:
    head = f"Content-Type: text/{kind}; charset=utf-8{LINE}Content-Transfer-Encoding: quoted-printable{LINE}{LINE}"
    return head.encode() + _quoted(words)


def _quoted(words: str) -> bytes:
    # A "=" becomes "=3D", so that no text can hold the boundary, which begins with "=_".
    return b2a_qp(words.replace("\n", LINE).encode(), istext=True)


def header(value: str) -> str:
    """Return a text as the value of a header: one line, in encoded words where it is not plain ASCII (RFC 2047)."""
    value = one_line(value)
    if value.isascii() and "=?" not in value:
        return value
    return f"{LINE} ".join(f"=?utf-8?b?{b64encode(part.encode()).decode()}?=" for part in _pieces(value))


def _pieces(value: str) -> Iterator[str]:
    """Yield a text in parts of at most `WORD_BYTES`, no character torn."""
    part, size = "", 0
    for each in value:
        size += len(each.encode())
        if size > WORD_BYTES:
            yield part
            part, size = "", len(each.encode())
        part += each
    yield part


def _atom(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", value)[:100]


def _whole(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)
