"""Bodies and headers that no Alertmanager sends: valid webhooks that were bent, cut, blown up and mixed, by a seed.

Theory: bytes drawn at random are refused at the first one. What finds mistakes is nearly valid, so each body is a
webhook, a recorder's events or a Grafana message in which one to three things are wrong, of the kinds below.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

PATHS = ("/v1/alertmanager", "/v1/alertmanager/fuzz", "/v1/grafana", "/v1/recorder")
CONTENT_TYPES = (
    "application/json", "application/json", "application/json; charset=utf-8", "", "text/plain", "application/xml",
    "application/json; charset=utf-16", "application/x-www-form-urlencoded", "\u00e9", "application/json" * 200,
)  # fmt: skip
TEXTS = (
    "", " ", "\x00", "a\r\nb", "\x1b[31mred\x1b[0m", "\u202eevil", "é" * 300, "x" * 70_000, "${HOME}", "{{ 7*7 }}",
    "%s%n",
    "'; drop table episode; --", "../../etc/passwd", "\U0001f525", "\ufeff", "\ud800", "NaN", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999999999Z", "-0001-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+25:00",
    "<script>alert(1)</script>", "A" * 300 + "!", "1e400", "=cmd|'/c calc'!A0",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**400, 0.1, [], {}, [[]], [None], {"a": None}, {"": ""}, [{"labels": {}}],
)  # fmt: skip
NAMES = tuple(f"Fuzz{number}" for number in range(40))


class Shot(NamedTuple):
    """One request."""

    path: str
    content_type: str
    body: bytes


def shots(seed: int) -> Callable[[], Shot]:
    """Return what gives one request after the other, the same for the same seed."""
    draw = random.Random(seed)

    def shot() -> Shot:
        message = _message(draw)
        for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
            draw.choice(BENDS)(draw, message)
        body = _written(draw, message)
        for _ in range(draw.choice((0, 0, 0, 1, 1, 2))):
            body = draw.choice(CUTS)(draw, body)
        is_odd = draw.random() < 0.05
        return Shot(draw.choice(PATHS), draw.choice(CONTENT_TYPES) if is_odd else "application/json", body)

    return shot


# ---- valid to begin with ---------------------------------------------------------------------------------


def _message(draw: random.Random) -> dict[str, Any]:
    name = draw.choice(NAMES)
    alerts = [_alert(draw, name) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
    return {
        "version": "4", "groupKey": f'{{}}:{{alertname="{name}"}}', "truncatedAlerts": 0, "status": "firing",
        "receiver": "tocsin", "groupLabels": {"alertname": name}, "commonLabels": {"alertname": name},
        "commonAnnotations": {}, "externalURL": "http://am.example.net:9093", "alerts": alerts,
    }  # fmt: skip


def _alert(draw: random.Random, name: str) -> dict[str, Any]:
    number = draw.randrange(25)
    return {
        "status": draw.choice(("firing", "firing", "resolved")),
        "labels": {"alertname": name, "instance": f"host-{number}:9100", "severity": "warning", "cluster": "fuzz"},
        "annotations": {"summary": f"{name} on host-{number} since {draw.randrange(100)} s"},
        "startsAt": f"2026-11-{draw.randrange(1, 28):02d}T03:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.net/graph",
        "fingerprint": f"{NAMES.index(name) * 100 + number:016x}",
    }  # fmt: skip


# ---- bends: something of the message is wrong ------------------------------------------------------------

Bend = Callable[[random.Random, dict[str, Any]], None]


def _place(draw: random.Random, message: dict[str, Any]) -> dict[str, Any]:
    """Return an object somewhere in the message."""
    place: Any = message
    while draw.random() < 0.6:
        inner = [each for each in place.values() if isinstance(each, dict | list) and each]
        if not inner:
            break
        place = draw.choice(inner)
        if isinstance(place, list):
            place = draw.choice(place)
        if not isinstance(place, dict):
            return message
    return dict_of(place, message)


def dict_of(place: Any, otherwise: dict[str, Any]) -> dict[str, Any]:
    """Return `place` where it is an object."""
    return place if isinstance(place, dict) else otherwise


def _retype(draw: random.Random, message: dict[str, Any]) -> None:
    place = _place(draw, message)
    if place:
        place[draw.choice(sorted(place))] = copy.deepcopy(draw.choice(VALUES))  # it may be bent again


def _retext(draw: random.Random, message: dict[str, Any]) -> None:
    place = _place(draw, message)
    if place:
        place[draw.choice(sorted(place))] = draw.choice(TEXTS)


def _rename(draw: random.Random, message: dict[str, Any]) -> None:
    _place(draw, message)[draw.choice(TEXTS)] = draw.choice(TEXTS)


def _leave_out(draw: random.Random, message: dict[str, Any]) -> None:
    place = _place(draw, message)
    if place:
        del place[draw.choice(sorted(place))]


def _deepen(draw: random.Random, message: dict[str, Any]) -> None:
    deep: Any = "deep"
    for _ in range(draw.choice((5, 40, 300))):
        deep = [deep] if draw.random() < 0.5 else {"a": deep}
    _place(draw, message)[draw.choice(("labels", "extra", "alerts"))] = deep


def _crowd(draw: random.Random, message: dict[str, Any]) -> None:
    what = draw.randrange(3)
    if what == 0:
        message["alerts"] = [{}] * draw.choice((10, 500))
    elif what == 1:
        message["alerts"] = [
            {"labels": {f"label_{number}": "x" for number in range(draw.choice((100, 2000)))}}
        ]
    else:
        message["alerts"] = [_alert(draw, draw.choice(NAMES)) for _ in range(30)]


def _events(draw: random.Random, message: dict[str, Any]) -> None:
    message.clear()
    message |= {
        "events": [{"type": draw.choice(TEXTS), "alert": _alert(draw, "Fuzz0"), "at": draw.choice(TEXTS)}]
    }


BENDS: tuple[Bend, ...] = (_retype, _retype, _retext, _retext, _rename, _leave_out, _deepen, _crowd, _events)


# ---- cuts: something of the bytes is wrong ---------------------------------------------------------------

Cut = Callable[[random.Random, bytes], bytes]


def _written(draw: random.Random, message: dict[str, Any]) -> bytes:
    text = json.dumps(message, ensure_ascii=draw.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def _end_early(draw: random.Random, body: bytes) -> bytes:
    return body[: draw.randrange(len(body) + 1)]


def _flip(draw: random.Random, body: bytes) -> bytes:
    if not body:
        return body
    place = draw.randrange(len(body))
    return body[:place] + bytes([body[place] ^ 1 << draw.randrange(8)]) + body[place + 1 :]


def _insert(draw: random.Random, body: bytes) -> bytes:
    place = draw.randrange(len(body) + 1)
    piece = draw.choice(
        (
            b"\xff",
            b"\x00",
            b"[" * 50,
            b"{" * 2000,
            b'"',
            b"\\ud800",
            b"\xed\xa0\x80",
            b",",
            b"1e999",
            b"NaN",
            b"\xef\xbb\xbf",
        )
    )
    return body[:place] + piece + body[place:]


def _repeat(draw: random.Random, body: bytes) -> bytes:
    first = draw.randrange(len(body) + 1)
    piece = body[first : first + draw.randrange(200)]
    return body[:first] + piece * draw.randrange(5) + body[first:]


def _two(_draw: random.Random, body: bytes) -> bytes:
    return body + body


def _noise(draw: random.Random, _body: bytes) -> bytes:
    return draw.randbytes(draw.randrange(300))


CUTS: tuple[Cut, ...] = (_end_early, _flip, _flip, _insert, _insert, _repeat, _two, _noise)
