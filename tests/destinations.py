"""Every destination as configured in the tests, and the events that are hardest on them."""

from __future__ import annotations

from typing import Any

from builders import START, episode, event, view

import connectors
from bridge.model import Event, EventKind, RootSuspect
from bridge.ports import Append, Connector, Frames, Http, Request

SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

#: name -> settings; the examples of the docs, and every variant that renders differently.
CASES: dict[str, dict[str, Any]] = {
    **{kind: connectors.load(kind).example for kind in sorted(connectors.KINDS)},
    "slack_webhook": {
        "name": "chat",
        "kind": "slack",
        "url": "https://hooks.slack.com/services/T0/B0/veryverysecret",
    },
    "syslog_json": {"name": "log", "kind": "syslog", "address": "127.0.0.1:601", "transport": "relp"},
    "syslog_cef": {
        "name": "arcsight",
        "kind": "syslog",
        "address": "[::1]:514",
        "transport": "tcp",
        "format": "cef",
        "max_message_bytes": 2048,
    },
}
#: Every secret text that stands in CASES.
SECRETS = (
    SIGNING_SECRET,
    "/hooks/tocsin",
    "0aa11bb2-0000-4000-8000-0123456789ab",
    "xoxb-0000-example",
    "0123456789abcdef0123456789abcdef",
    "veryverysecret",
)


def build(name: str, **changes: Any) -> Connector:
    """Return the connector of a case, with some settings changed."""
    settings = CASES[name] | changes
    kind = connectors.load(settings["kind"])
    return kind(kind.Settings(**settings))


#: Everything that some format gives a meaning to, and what terminals and log files are attacked with.
NASTY = 'a|b=c\\d]e"f^g&h<!channel>i{j}\r\nCEF:0|k\x1b[31ml\x00m\x85n\u2028o\u202ep 🔥日本é%s${env}`*_~'


def nasty_event(
    kind: EventKind = EventKind.ESCALATED, size: int = 1_000_000, count: int = 100, labels: int = 500
) -> Event:
    """Return an event of `count` episodes with hostile texts: one with annotations of `size`, one without labels."""
    huge = episode(
        NASTY,
        annotations={"summary": NASTY * (size // len(NASTY)), "description": "é" * size},
        labels={"alertname": NASTY, "instance": NASTY, NASTY: NASTY, "long": "x" * size},
    )
    bare = episode(number=1, labels={}, annotations={}, generator_url="")
    others = tuple(episode(number=number, annotations={"text": NASTY * 20}) for number in range(2, count))
    incident = view(
        title=NASTY * 50,
        summary=NASTY * (size // len(NASTY)),
        anomaly=None,
        anomaly_reason=NASTY,
        common_labels={NASTY: NASTY, "huge": "ü" * size} | {f"label_{each}": NASTY for each in range(labels)},
        episodes=(huge, bare, *others),
        truncated=41,
        root=(RootSuspect(fingerprint="0" * 16, starts_at=START, confidence=1 / 3, why=NASTY),),
        escalations=2,
    )
    return event(kind, seq=7, incident=incident, degraded=True)


def wire(request: Request) -> bytes:
    """Return a request as text, for golden files: its bytes with what stands around them."""
    match request:
        case Http():
            head = [
                f"{request.method} {request.url}",
                *(f"{key}: {value}" for key, value in request.headers.items()),
            ]
            return "\n".join(head).encode() + b"\n\n" + request.body + b"\n"
        case Frames():
            head = f"{request.transport} {request.address}\n\n".encode()
            return head + b"".join(frame + b"\n" for frame in request.frames)
        case Append():
            return f"append {request.path}\n\n".encode() + request.lines


def payload(request: Request) -> bytes:
    """Return the bytes that `caps.max_bytes` limits."""
    match request:
        case Http():
            return request.body
        case Frames():
            return b"".join(request.frames)
        case Append():
            return request.lines
