from __future__ import annotations

import json
from typing import Any

from expected import Expected
from hypothesis import strategies as st

from bridge.ports import HttpResponse


def parse(_case: str, sent: bytes) -> None:
    text = sent.decode()
    record, end = json.JSONDecoder().raw_decode(text)
    assert end == len(text)
    written = record["event"]
    assert written.get("event_id", written.get("metadata", {}).get("uid")) == record["fields"]["event_id"]


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["event"]["incident"]


EXPECTED = Expected(
    variants={
        "splunk_ocsf": {
            "name": "siem",
            "kind": "splunk",
            "url": "https://splunk.example.com:8088",
            "format": "ocsf-detection",
            "token": "0aa11bb2-0000-4000-8000-0123456789ab",
            "sourcetype": "ocsf:finding",
        }
    },
    secrets=("0aa11bb2-0000-4000-8000-0123456789ab",),
    parse=parse,
    incident=incident,
    whole=("splunk",),
    corrected={"url": "https://right.example.com:8088"},
    probed=HttpResponse(status=200, headers={}, body=b'{"text":"HEC is healthy","code":17}'),
    says_https=False,
    answers={
        "code": st.integers(-1, 30) | st.booleans() | st.text(max_size=3),
        "invalid-event-number": st.integers(-2, 5) | st.text(max_size=2),
    },
)
