"""Webhooks for tests, written after the real shapes: `body(alert(...), ...)`."""

from __future__ import annotations

import json
from typing import Any

NEVER = "0001-01-01T00:00:00Z"


def alert(**changes: Any) -> dict[str, Any]:
    """Return one firing alert as Alertmanager sends it; a change to `...` leaves the field out."""
    fields: dict[str, Any] = {
        "status": "firing",
        "labels": {"alertname": "DiskFull", "instance": "db-1:9100", "severity": "critical"},
        "annotations": {"summary": "The disk of db-1 is full"},
        "startsAt": "2026-11-23T19:06:13.436321123Z",
        "endsAt": NEVER,
        "generatorURL": "http://prometheus.example.net/graph",
        "fingerprint": "0123456789abcdef",
    } | changes
    return {name: value for name, value in fields.items() if value is not ...}


def body(*alerts: Any, **changes: Any) -> bytes:
    """Return a webhook with these alerts, with the newline that Go writes."""
    fields: dict[str, Any] = {
        "receiver": "tocsin",
        "status": "firing",
        "alerts": list(alerts),
        "groupLabels": {"alertname": "DiskFull"},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.net:9093",
        "version": "4",
        "groupKey": '{}:{alertname="DiskFull"}',
        "truncatedAlerts": 0,
    } | changes
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


#: Bodies that can never be good, with what the answer has to say.
HOPELESS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not JSON"),
    "no JSON": (b"alerts: []", "not JSON"),
    "half a body": (body(alert())[:-20], "not JSON"),
    "something behind it": (body() + b"{}", "not JSON"),
    "a list": (b'[{"alerts": []}]', "not an Alertmanager webhook"),
    "a number": (b"4", "not an Alertmanager webhook"),
    "null": (b"null", "not an Alertmanager webhook"),
    "no alerts": (b'{"version": "4"}', "not an Alertmanager webhook"),
    "alerts that are no list": (b'{"alerts": {"a": 1}}', "not an Alertmanager webhook"),
    "alerts that are null": (b'{"alerts": null}', "not an Alertmanager webhook"),
    "a template of their own": (b'{"text": "DiskFull on db-1", "channel": "#ops"}', "not an Alertmanager webhook"),
    "not UTF-8 in a string": (b'{"alerts": [], "receiver": "\xff"}', "not UTF-8"),
    "not UTF-8 in an alert": (b'{"alerts": [{"labels": {"a": "\xc3("}}]}', "not UTF-8"),
    "not UTF-8 in a name": (b'{"alerts": [], "\xff": 1}', "not UTF-8"),
    "UTF-16": (body(alert()).decode().encode("utf-16"), "not JSON"),
    "a surrogate as bytes": (b'{"alerts": [], "receiver": "\xed\xa0\x80"}', "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf" + body(), "not JSON"),
    "a lone high surrogate": (rb'{"alerts": [{"labels": {"a": "\ud800 x"}}]}', "not JSON"),
    "a lone low surrogate": (rb'{"alerts": [], "receiver": "\udc00"}', "not JSON"),
    "a lone surrogate in a name": (rb'{"alerts": [{"\udfff": 1}]}', "not JSON"),
    "two high surrogates": (rb'{"alerts": ["\ud800\ud800"]}', "not JSON"),
    "a raw NUL": (b'{"alerts": [], "receiver": "\x00"}', "not JSON"),
    "a raw newline in a string": (b'{"alerts": [], "receiver": "a\nb"}', "not JSON"),
    "NaN": (b'{"alerts": [{"value": NaN}]}', "not JSON"),
    "200 levels beside the alerts": (b'{"alerts": [], "x": ' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper"),
    "200 levels in an alert": (b'{"alerts": [' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"]}", "nested deeper"),
    "100,000 levels": (b'{"alerts": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}", "nested deeper"),
    "levels after many good alerts": (
        b'{"alerts": [' + b'{"labels": {}, "annotations": {}},' * 500 + b'[{"a": ' * 60 + b"1" + b"}]" * 60 + b"]}",
        "nested deeper",
    ),
}  # fmt: skip

#: Bodies that are taken in, since what is wrong lies inside of one alert or does not matter.
GOOD_WITH_FAULTS: dict[str, bytes] = {
    "another version": body(alert(), version="5"),
    "unknown fields": body(alert(mood="bad"), routeLabels={}),
    "every alert is bad": body({"labels": 7}),
    "a megabyte in a label": body(alert(labels={"a": "x" * 1_000_000})),
    "1e400": body(alert(value=0)).replace(b'"value":0', b'"value":1e400'),
    "a NUL as an escape": body(alert(annotations={"a": "\0"})),
}
