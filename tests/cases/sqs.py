from __future__ import annotations

import json
from typing import Any

from expected import Expected, payload
from hypothesis import strategies as st

from bridge.ports import HttpResponse, Request

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLETOKEN"
STANDARD = {
    "name": "queue", "kind": "sqs", "region": "us-east-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": SECRET, "session_token": TOKEN,
    "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/incidents",
}  # fmt: skip


def readable(request: Request) -> bytes:
    return b"\n".join(entry["MessageBody"].encode() for entry in json.loads(payload(request))["Entries"])


def parse(_case: str, sent: bytes) -> None:
    for line in sent.splitlines():
        assert json.loads(line)["schema"] == "tocsin.event/1"


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["incident"]


ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "Id": st.text(max_size=3) | st.integers(), "Code": st.sampled_from(["InternalError", 3, "Throttling"]),
        "Message": st.text(max_size=3) | st.none(), "SenderFault": st.booleans() | st.text(max_size=2),
    },
)  # fmt: skip

EXPECTED = Expected(
    variants={"sqs_standard": STANDARD},
    secrets=(SECRET, TOKEN),
    parse=parse,
    readable=readable,
    incident=incident,
    whole=("sqs", "sqs_standard"),
    url="queue_url",
    corrected={"queue_url": "https://right.example.com/1/q.fifo"},
    probed=HttpResponse(
        status=400, headers={"content-type": "application/x-amz-json-1.0"},
        body=b'{"__type":"com.amazonaws.sqs#EmptyBatchRequest","message":"There should be at least one entry."}',
    ),
    answers={
        "Successful": st.lists(ENTRY, max_size=3) | st.integers(),
        "Failed": st.lists(ENTRY | st.none(), max_size=3) | st.text(max_size=2),
        "__type": st.text(max_size=5) | st.integers(),
    },
)  # fmt: skip
