from __future__ import annotations

import json
from typing import Any

from expected import Expected, payload
from hypothesis import strategies as st

from bridge.ports import HttpResponse, Request


def readable(request: Request) -> bytes:
    return b"\n".join(entry["Detail"].encode() for entry in json.loads(payload(request))["Entries"])


def parse(_case: str, sent: bytes) -> None:
    for line in sent.splitlines():
        assert json.loads(line)["schema"] == "tocsin.event/1"


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["incident"]


TEXT = st.text(max_size=3) | st.integers() | st.none()

EXPECTED = Expected(
    parse=parse,
    readable=readable,
    incident=incident,
    whole=("eventbridge",),
    url="endpoint",
    corrected={"endpoint": "https://right.example.com"},
    probed=HttpResponse(
        status=400, headers={},
        body=b'{"__type":"ValidationException","message":"1 validation error detected: Value \'[]\' at \'entries\' failed"}',
    ),
    answers={
        "Entries": st.lists(
            st.fixed_dictionaries({}, optional={"EventId": TEXT, "ErrorCode": TEXT, "ErrorMessage": TEXT})
            | st.none(),
            min_size=3, max_size=3,
        ),
    },
)  # fmt: skip
