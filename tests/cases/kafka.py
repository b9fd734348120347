from __future__ import annotations

import json
from typing import Any

from expected import Expected

from bridge.ports import Publish, Published, Request


def readable(request: Request) -> bytes:
    assert isinstance(request, Publish)
    return b"".join(record.value for record in request.records)


def incident(case: str, sent: bytes) -> dict[str, Any]:
    told = json.loads(sent)
    return (told["data"] if case == "kafka_cloudevents" else told)["incident"]


PLAIN = {"name": "bus", "kind": "kafka", "servers": "127.0.0.1:9092", "topic": "incidents", "tls": False}

EXPECTED = Expected(
    variants={
        "kafka_cloudevents": PLAIN | {"format": "cloudevents"},
        "kafka_ocsf": PLAIN | {"format": "ocsf-incident", "compression": "gzip"},
    },
    secrets=("kafka-password-of-tocsin",),
    readable=readable,
    incident=incident,
    whole=("kafka", "kafka_cloudevents"),
    url="",
    corrected={"servers": "right.example.com:9093"},
    probed=Published(faults=()),
)
