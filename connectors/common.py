"""What all destinations share: judging answers, fitting texts into limits, the JSON form of an event.

Rule: pure. Nothing here raises for what a destination may answer.

Decision: the status tables stand here once and a kind adds only the rule of its own body. Only what is known to
be about the message rejects it (400, 409, 422, and not even a 400 where the kind knows better); every other
refusal is `Blocked`: nothing is thrown away for a mistake that a person can correct. If it was about the message
after all, the dispatcher finds out, because the destination takes others.
Rejected: to block on a list of statuses and to reject the rest. 402, 405, 407, 415, 426 and the 400 of a server
that was spoken to in plain HTTP all come from the settings, and emptied the outbox into the dead letters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from bridge.model import (
    Advice,
    Blocked,
    Delivered,
    Event,
    EventEpisode,
    IncidentState,
    IncidentView,
    Reject,
    Retry,
    Severity,
    Split,
    Verdict,
)
from bridge.ports import HttpResponse, Response, Unreached
from connectors.credentials import STARS, Secret, hidden

#: Texts of an event that are cut shorter than this leave no room for recommendations.
LEAST_ADVICE = 256
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Of those, the ones that tell of the destination rather than of this event.
IN_TROUBLE = frozenset({429, 503})
#: What is known to be about the message itself.
REJECTED = frozenset({400, 409, 422})
#: What to look at, where the status says it.
HINTS = {
    401: "the credentials were refused",
    402: "the account is not paid for",
    403: "the credentials may not do this",
    404: "the address does not exist there",
    405: "the address does not take a POST; it is not the right one",
    407: "a proxy in between wants credentials",
    410: "the address is gone",
    415: "the address wants another kind of content; it is not the right one",
    421: "the server does not answer for this host name",
    426: "the server wants another protocol; is it https?",
    451: "the server may not answer",
}
#: How web servers say that their TLS port was spoken to in plain HTTP: nginx, Apache, Go. They say it with a 400.
PLAIN_HTTP = (
    b"plain http request was sent to https port",
    b"speaking plain http to an ssl-enabled server port",
    b"client sent an http request to an https server",
)
OK, MULTIPLE_CHOICES, BAD_REQUEST, TOO_LARGE, ABOVE_CLIENT = 200, 300, 400, 413, 500
EXCERPT_CHARACTERS = 200
#: Access tokens and signed ones that a sender makes or fetches: no setting is equal to them.
TOKENS = re.compile(r"ya29\.[\w.-]+|eyJ[\w-]++(?:\.[\w-]++)+")
ELLIPSIS = "…"

EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
OVER = frozenset({IncidentState.CLOSED, IncidentState.MERGED})
#: 0..10 of CEF and 1..10 of LEEF; the good news that something is over is not as severe as the thing itself.
TEN_SEVERITY: dict[Severity, int] = {"critical": 10, "warning": 6, "info": 3}
TEN_SEVERITY_OVER: dict[Severity, int] = {"critical": 3, "warning": 2, "info": 1}
#: RFC 5424 section 6.2.1: critical, warning, informational; notice for what is over.
SYSLOG_SEVERITY: dict[Severity, int] = {"critical": 2, "warning": 4, "info": 6}
NOTICE = 5


def ten_severity(view: IncidentView) -> int:
    """Return how severe an incident is now for CEF and LEEF, 1..10."""
    return (TEN_SEVERITY_OVER if view.state in OVER else TEN_SEVERITY)[view.severity]


def syslog_severity(view: IncidentView) -> int:
    """Return how severe an incident is now for syslog, 0..7, lower is worse."""
    return NOTICE if view.state in OVER else SYSLOG_SEVERITY[view.severity]


# ---- answers ---------------------------------------------------------------------------------------------


def judge_http(response: Response, secrets: Iterable[Secret | None] = ()) -> Verdict:
    """Return what the status alone says; 2xx is `Delivered`, and then the body has its say at the caller's.

    `secrets` are taken out of the excerpt of the answer that becomes the reason.
    """
    match response:
        case HttpResponse():
            return _judge_status(response, secrets)
        case Unreached():
            return judge_unreached(response)
        case _:
            return Reject(reason="the answer is of another protocol")


def _judge_status(response: HttpResponse, secrets: Iterable[Secret | None]) -> Verdict:
    status = response.status
    reason = f"HTTP {status}{excerpt(response.body, secrets)}"
    if OK <= status < MULTIPLE_CHOICES:
        return Delivered()
    if status in RETRIED:
        return Retry(reason=reason, after_s=retry_after_s(response), whole_destination=status in IN_TROUBLE)
    if status == TOO_LARGE:
        return Split(reason=reason)
    if MULTIPLE_CHOICES <= status < BAD_REQUEST:
        return Blocked(reason=f"HTTP {status}: redirects are never followed; give the final address")
    if any(words in response.body.lower() for words in PLAIN_HTTP):
        return Blocked(reason=f"HTTP {status}: this port speaks TLS; write https:// instead of http://")
    if status in REJECTED:
        return Reject(reason=reason)
    if BAD_REQUEST <= status < ABOVE_CLIENT:
        return Blocked(reason=f"{reason} ({HINTS[status]})" if status in HINTS else reason)
    # 1xx, 501, 505 and beyond: a proxy or a server that is not what it should be; it may become one.
    return Retry(reason=reason)


def judge_unreached(response: Unreached) -> Verdict:
    """Return the verdict on no answer: wait, except for what waiting does not heal."""
    if response.kind in {"tls", "local"}:
        return Blocked(reason=response.reason)
    return Retry(
        reason=response.reason, maybe_sent=response.maybe_sent, whole_destination=response.kind != "reset"
    )


def excerpt(body: bytes, secrets: Iterable[Secret | None] = ()) -> str:
    """Return ": " and the first words of an answer, printable, without `secrets` and tokens; "" for an empty one."""
    # Hidden before it is cut: of a secret that the cut goes through the beginning would be left.
    text = hidden(body.decode("utf-8", "replace"), secrets)[: 8 * EXCERPT_CHARACTERS]
    text = clip(TOKENS.sub(STARS, " ".join(one_line(text).split())), EXCERPT_CHARACTERS)
    return f": {text}" if text else ""


def retry_after_s(response: HttpResponse) -> float | None:
    """Return how long the destination asks to wait, in seconds; None if it does not say.

    The header counts in seconds or gives a date, which is measured against the answer's own `Date` because
    nothing here knows the time. Without a header the JSON fields `retry_after` (s) and `retry_after_ms` do.
    """
    header = response.headers.get("retry-after", "").strip()
    if header:
        seconds = _number(header)
        return seconds if seconds is not None else _until(header, response.headers.get("date", ""))
    fields = json_object(response.body)
    seconds, milliseconds = _number(fields.get("retry_after")), _number(fields.get("retry_after_ms"))
    if seconds is not None:
        return seconds
    return None if milliseconds is None else milliseconds / 1000


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(date: str, own_date: str) -> float | None:
    try:
        until, sent = parsedate_to_datetime(date), parsedate_to_datetime(own_date)
        return max(0.0, (_aware(until) - _aware(sent)).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in an answer; {} where there is none."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


# ---- texts and limits ------------------------------------------------------------------------------------


def one_line(text: str) -> str:
    """Return `text` with every control character (line ends, NUL, ANSI escapes, C1) made a space."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == " " else " " for each in text)


def clip(text: str, characters: int) -> str:
    """Return at most `characters` of `text`; what is missing shows as an ellipsis."""
    return text if len(text) <= characters else text[: max(0, characters - 1)] + ELLIPSIS[:characters]


def clip_escaped(
    text: str, limit: int, escape: Callable[[str], str], size: Callable[[str], int] = len
) -> str:
    """Return `escape(text)`, cut before escaping so that no escape sequence is torn and the limit holds.

    `size` measures what the limit counts: characters by default, `utf8_size` for bytes.
    """
    head = text[:limit]
    escaped = escape(head)
    if len(head) == len(text) and size(escaped) <= limit:
        return escaped
    room, kept = limit - size(ELLIPSIS), 0
    for each in head:
        room -= size(escape(each))
        if room < 0:
            break
        kept += 1
    return escape(head[:kept]) + ELLIPSIS if limit >= size(ELLIPSIS) else ""


def utf8_size(text: str) -> int:
    """Return the length of `text` in bytes of UTF-8."""
    return len(text.encode())


def rfc3339(time: datetime) -> str:
    """Return `time` in UTC with microseconds and `Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def milliseconds(time: datetime) -> int:
    """Return whole milliseconds since the epoch."""
    return (time - EPOCH) // MILLISECOND


def nanoseconds(time: datetime) -> int:
    """Return whole nanoseconds since the epoch; the last three digits are 0."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


# ---- the event as JSON -----------------------------------------------------------------------------------


def encode(value: object) -> bytes:
    """Return JSON that is the same for the same value, whatever order its dicts were filled in."""
    return msgspec.json.encode(value, order="deterministic")


def fit(event: Event, size_bytes: int, written: Callable[[Event], bytes] = encode) -> bytes:
    """Return the event, `written` as bytes (JSON by default), in at most `size_bytes`, shortened as little as it takes.

    First long texts are cut, then episodes are left out from the end (the worst stand first; `truncated`
    counts them), at last the incident keeps only its ids, counts and a short title. Below about 2 KiB nothing
    can be promised. Cost: the event is written once, or some ten times if it is too large.
    """
    made = written(event)
    for characters in (4096, 1024):
        if len(made) <= size_bytes:
            return made
        event = _shortened(event, characters)
        made = written(event)
    for characters in (1024, 256, 24):
        if len(made) <= size_bytes:
            return made
        event = _fewer_episodes(_shortened(event, characters), size_bytes, written)
        made = written(event)
    return made if len(made) <= size_bytes else written(_bare(event))


def fit_quoted(event: Event, size_bytes: int) -> str:
    """Return the event as JSON text that, as a string within JSON, takes at most `size_bytes`, quotes included.

    Shortened as `fit` does it. Below about 4 KiB nothing can be promised: escaping at most doubles the text.
    """
    room = size_bytes - 2
    encoded = fit(event, room)
    for _ in range(3):
        escapes = encoded.count(b'"') + encoded.count(b"\\")
        if len(encoded) + escapes <= room:
            break
        encoded = fit(event, room * len(encoded) // (len(encoded) + escapes) * 9 // 10)
    else:
        encoded = fit(event, room // 2)
    return encoded.decode()


def _shortened(event: Event, characters: int) -> Event:
    view = event.incident
    episodes = tuple(_short_episode(episode, characters) for episode in view.episodes)
    view = msgspec.structs.replace(
        view,
        title=clip(view.title, characters),
        summary=clip(view.summary, characters),
        anomaly_reason=clip(view.anomaly_reason, characters),
        common_labels=_short_texts(view.common_labels, characters),
        root=tuple(msgspec.structs.replace(each, why=clip(each.why, characters)) for each in view.root),
        episodes=episodes,
    )
    return msgspec.structs.replace(
        event, incident=view, recommendations=_short_advice(event.recommendations, characters)
    )


def _short_advice(
    advice: tuple[Advice, ...] | msgspec.UnsetType, characters: int
) -> tuple[Advice, ...] | msgspec.UnsetType:
    """Return recommendations with their best evidence alone, and none where next to no room is left."""
    if advice is msgspec.UNSET or characters < LEAST_ADVICE:
        return msgspec.UNSET
    return tuple(
        msgspec.structs.replace(
            each, text=clip(each.text, characters), incidents=(),
            evidence=tuple(clip(why, characters) for why in each.evidence[:1]),
        )
        for each in advice
    )  # fmt: skip


def _short_episode(episode: EventEpisode, characters: int) -> EventEpisode:
    return msgspec.structs.replace(
        episode,
        labels=_short_texts(episode.labels, characters),
        annotations=_short_texts(episode.annotations, characters),
        generator_url=episode.generator_url if len(episode.generator_url) <= characters else "",
        why=clip(episode.why, characters),
    )


def _short_texts(texts: dict[str, str], characters: int) -> dict[str, str]:
    return {clip(key, characters): clip(value, characters) for key, value in texts.items()}


def _fewer_episodes(event: Event, size_bytes: int, written: Callable[[Event], bytes]) -> Event:
    """Return the event with as many episodes as fit, by halving: a form may write an episode in several places."""
    episodes = event.incident.episodes
    total = event.incident.truncated + len(episodes)

    def cut(kept: int) -> Event:
        return _with(event, episodes=episodes[:kept], truncated=total - kept)

    fitting, too_many = 0, len(episodes) + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if len(written(cut(middle))) <= size_bytes:
            fitting = middle
        else:
            too_many = middle
    return cut(fitting)


def _bare(event: Event) -> Event:
    view = event.incident
    return _with(
        event,
        episodes=(), truncated=view.truncated + len(view.episodes), common_labels={}, root=(), url="",
    )  # fmt: skip


def _with(event: Event, **changes: Any) -> Event:
    view: IncidentView = msgspec.structs.replace(event.incident, **changes)
    return msgspec.structs.replace(event, incident=view)


def smallest(made: Iterable[bytes], size_bytes: int) -> bytes:
    """Return the first of `made`, the longest first, that is at most `size_bytes`; the last if none is."""
    body = b""
    for body in made:
        if len(body) <= size_bytes:
            break
    return body


def first_that_fit(bodies: Sequence[bytes], size_bytes: int, joint_bytes: int = 0) -> int:
    """Return how many of `bodies` fit one request of `size_bytes`, `joint_bytes` between two; at least 1."""
    total = 0
    for count, body in enumerate(bodies):
        total += len(body) + (joint_bytes if count else 0)
        if count and total > size_bytes:
            return count
    return len(bodies)
