from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from expected import Expected, payload

from bridge.ports import HttpResponse, Request

FIFO = {
    "name": "topic", "kind": "sns", "region": "eu-west-1",
    "topic_arn": "arn:aws:sns:eu-west-1:123456789012:incidents.fifo",
}  # fmt: skip


def readable(request: Request) -> bytes:
    return b"\n".join(
        value.encode() for key, value in parse_qsl(payload(request).decode()) if key.endswith(".Message")
    )


def parse(_case: str, sent: bytes) -> None:
    for line in sent.splitlines():
        assert json.loads(line)["schema"] == "tocsin.event/1"


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["incident"]


EXPECTED = Expected(
    variants={"sns_fifo": FIFO},
    parse=parse,
    readable=readable,
    incident=incident,
    whole=("sns", "sns_fifo"),
    url="endpoint",
    corrected={"endpoint": "https://right.example.com"},
    probed=HttpResponse(
        status=400, headers={},
        body=b"<ErrorResponse><Error><Type>Sender</Type><Code>EmptyBatchRequest</Code><Message>x</Message></Error></ErrorResponse>",
    ),
)  # fmt: skip
