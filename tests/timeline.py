"""A small language for what happened and what should come of it, after Alertmanager's acceptance tests.

    at 0s    fires  HighCPU{host="a",severity="critical"}  group=g1 starts=-10s
    at 20s   ends   HighCPU{host="a",severity="critical"}
    at 1h    clock
    want 0s  #1 opened critical

`at` lines are webhooks of one alert (several with the same time and group make one webhook); `starts=` and `ends=`
are relative to the line's own time, except `starts=@0s`, which is relative to the beginning; `peer=` is which
Alertmanager of a pair sends it. `want` lines are all
events, in order; incidents are numbered by their first event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bridge.analysis.settings import AnalysisSettings
from bridge.model import InboxRow, RowKind

START = datetime(2026, 1, 5, 3, 0, 0, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00Z"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
Where = tuple[datetime, str, str, str]  # received_at, group, source, peer
_LINE = re.compile(r"at\s+(\S+)\s+(fires|ends|clock)\s*([^{\s]*)(\{.*?\})?(.*)")


@dataclass
class Timeline:
    rows: list[InboxRow] = field(default_factory=list)
    want: list[str] = field(default_factory=list)
    settings: AnalysisSettings = field(default_factory=AnalysisSettings)


def seconds(text: str) -> float:
    """Return the seconds of "90s", "-5m", "1h"."""
    return float(text[:-1]) * _UNITS[text[-1]]


def after(text: str) -> datetime:
    """Return the time that `text` ("90s", "5m") after the beginning."""
    return START + timedelta(seconds=seconds(text))


def stamp(at: datetime) -> str:
    """Return the time as Alertmanager writes it."""
    return at.isoformat().replace("+00:00", "Z")


def alert(
    labels: dict[str, str],
    *,
    starts: datetime = START,
    ends: datetime | None = None,
    annotations: dict[str, str] | None = None,
) -> dict[str, object]:
    """Return one alert as it stands in a webhook."""
    return {
        "status": "firing" if ends is None else "resolved",
        "labels": labels,
        "annotations": annotations or {"summary": f"{labels.get('alertname')} is firing"},
        "startsAt": stamp(starts),
        "endsAt": NEVER if ends is None else stamp(ends),
        "generatorURL": "",
    }


def webhook(
    alerts: Sequence[dict[str, object]], *, group: str = "{}:{}", truncated: int = 0, peer: str = "am"
) -> bytes:
    """Return a webhook body; its status is what Alertmanager would say of the alerts that were sent."""
    firing = any(one["status"] == "firing" for one in alerts)
    return json.dumps(
        {
            "version": "4",
            "groupKey": group,
            "truncatedAlerts": truncated,
            "status": "firing" if firing else "resolved",
            "receiver": "tocsin",
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": f"http://{peer}:9093",
            "alerts": list(alerts),
        }
    ).encode()


def row(number: int, at: datetime, body: bytes, *, kind: RowKind = RowKind.WEBHOOK, tenant: str = "default",
        source: str = "default") -> InboxRow:  # fmt: skip
    """Return one inbox row."""
    return InboxRow(id=number, received_at=at, tenant=tenant, source=source, kind=kind, body=body)


def read(text: str) -> Timeline:
    """Read a scenario."""
    timeline = Timeline()
    pending: dict[Where, list[dict[str, object]]] = {}
    for line in map(str.strip, text.splitlines()):
        if line.startswith("want "):
            timeline.want.append(" ".join(line.split()[1:]))
        elif line.startswith("at "):
            _read_at(line, pending)
    for number, ((at, group, source, peer), alerts) in enumerate(pending.items(), 1):
        kind = RowKind.WEBHOOK if alerts else RowKind.CLOCK
        body = webhook(alerts, group=group, peer=peer) if alerts else b""
        timeline.rows.append(row(number, at, body, kind=kind, source=source))
    return timeline


def _read_at(line: str, pending: dict[Where, list[dict[str, object]]]) -> None:
    found = _LINE.fullmatch(line)
    assert found, f"cannot read: {line}"
    when, verb, name, braces, rest = found.groups()
    at = after(when)
    options = dict(option.split("=", 1) for option in rest.split())
    group = options.get("group", f'{{}}:{{alertname="{name}"}}')
    key = (at, group, options.get("source", "default"), options.get("peer", "am"))
    alerts = pending.setdefault(key, [])
    if verb == "clock":
        return
    labels = dict(re.findall(r'(\w+)="(.*?)"', braces or ""))
    starts = options.get("starts", "@0s" if verb == "ends" else "0s")
    starts_at = after(starts[1:]) if starts.startswith("@") else at + timedelta(seconds=seconds(starts))
    ends_at = at + timedelta(seconds=seconds(options.get("ends", "0s"))) if verb == "ends" else None
    note = {"summary": options["note"]} if "note" in options else None
    alerts.append(alert({"alertname": name, **labels}, starts=starts_at, ends=ends_at, annotations=note))
