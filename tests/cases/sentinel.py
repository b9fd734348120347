from __future__ import annotations

import json
import re
from typing import Any

from expected import Expected

from bridge.ports import HttpResponse

#: The table's columns and their types, as docs/connectors/sentinel.md declares them to Azure.
COLUMNS = {
    "TimeGenerated": "datetime", "EventId": "string", "EventVendor": "string", "EventProduct": "string",
    "EventType": "string", "EventSubType": "string", "EventStartTime": "datetime", "EventEndTime": "datetime",
    "EventSeverity": "string", "EventOriginalSeverity": "string", "EventMessage": "string", "EventReportUrl": "string",
    "AlertName": "string", "AlertStatus": "string", "AlertOriginalStatus": "string", "DvcHostname": "string",
    "IncidentId": "string", "Sequence": "int", "Tenant": "string", "Origin": "string", "AlertsTotal": "int",
    "AlertsFiring": "int", "Escalations": "int", "Degraded": "boolean", "Anomaly": "real", "RootSuspect": "string",
    "AlertNames": "dynamic", "Hosts": "dynamic", "Services": "dynamic", "Clusters": "dynamic", "Namespaces": "dynamic",
    "Event": "dynamic",
}  # fmt: skip
TYPES: dict[str, type | tuple[type, ...]] = {
    "datetime": str, "string": str, "int": int, "boolean": bool, "real": float, "dynamic": (list, dict),
}  # fmt: skip
FIELD_BYTES = 64 * 1024


def parse(_case: str, sent: bytes) -> None:
    rows = json.loads(sent)
    assert rows
    for row in rows:
        for column, value in row.items():
            assert isinstance(value, TYPES[COLUMNS[column]]), column
            assert len(json.dumps(value, ensure_ascii=False).encode()) <= FIELD_BYTES
            assert not isinstance(value, str) or value.isprintable(), column


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)[0]["Event"]["incident"]


EXPECTED = Expected(
    secrets=("abc8Q~example-client-secret",),
    parse=parse,
    count=re.compile(rb'"AlertsTotal":100\b'),
    incident=incident,
    whole=("sentinel",),
    corrected={"url": "https://right.example.com"},
    probed=HttpResponse(status=204, headers={}, body=b""),
    bare_success=frozenset({204}),
)
