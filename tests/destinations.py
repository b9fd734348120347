"""Every destination as configured in the tests, and the events that are hardest on them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from builders import START, episode, event, view
from expected import Expected

import connectors
from bridge.model import Event, EventKind, RootSuspect
from bridge.ports import (
    Append,
    Connector,
    Frames,
    Http,
    Mail,
    Notice,
    Publish,
    Record,
    Request,
    Table,
    Upsert,
)

#: kind -> what is expected of it: each file of `cases/`.
EXPECTED: dict[str, Expected] = {
    path.stem: import_module(f"cases.{path.stem}").EXPECTED
    for path in sorted((Path(__file__).parent / "cases").glob("*.py"))
}
#: name -> settings; the examples of the docs, and every variant that renders differently.
CASES: dict[str, dict[str, Any]] = {
    kind: connectors.load(kind).example for kind in sorted(connectors.KINDS)
} | {name: variant for expected in EXPECTED.values() for name, variant in expected.variants.items()}
#: Every secret text that stands in CASES.
SECRETS = tuple(secret for expected in EXPECTED.values() for secret in expected.secrets)


def expected_of(case: str) -> Expected:
    """Return what is expected of a case."""
    return EXPECTED[CASES[case]["kind"]]


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
        case Mail():
            head = f"{request.security} {request.address} {request.sender} {' '.join(request.recipients)}\n\n"
            return head.encode() + request.message.replace(b"\r\n", b"\n")
        case Notice():
            return f"{request.level} {request.url}\n{request.title}\n\n{request.text}".encode()
        case Upsert():
            head = f"{request.user} {request.address} {request.database} tls={request.tls}\n\n".encode()
            return head + request.rows + b"\n"
        case Table():
            return f"{request.path} {request.name}\n\n".encode() + request.rows + b"\n"
        case Publish():
            head = f"publish {request.address} {request.topic} {request.security} {request.compression} {request.login}\n"
            return head.encode() + b"".join(map(_record, request.records))


def _record(record: Record) -> bytes:
    headers = "".join(f"{key}: {value}\n" for key, value in record.headers.items())
    return f"\n{record.key.decode()} {record.at_ms}\n{headers}\n".encode() + record.value + b"\n"
