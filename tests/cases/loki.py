from __future__ import annotations

import json
from typing import Any

from expected import Expected, payload

from bridge.ports import HttpResponse, Request


def entries(sent: bytes) -> list[tuple[dict[str, str], str, str, dict[str, str]]]:
    """Return labels, time, line and structured metadata of what Loki is sent."""
    return [
        (stream["stream"], value[0], value[1], value[2] if len(value) > 2 else {})
        for stream in json.loads(sent)["streams"]
        for value in stream["values"]
    ]


def lines(request: Request) -> bytes:
    return b"\n".join(line.encode() for _, _, line, _ in entries(payload(request)))


def parse(_case: str, sent: bytes) -> None:
    for line in sent.decode().split("\n"):
        assert json.loads(line)["event_id"]


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent.decode().split("\n")[0])["incident"]


EXPECTED = Expected(
    variants={
        "loki_plain": {
            "name": "loki",
            "kind": "loki",
            "url": "http://127.0.0.1:3100",
            "structured_metadata": False,
            "org_id": "ops",
            "token": "bearer-of-the-gateway",
        }
    },
    secrets=(
        "glc_example-token-of-a-stack",
        "MTIzNDU2OmdsY19leGFtcGxlLXRva2VuLW9mLWEtc3RhY2s=",
        "bearer-of-the-gateway",
    ),
    parse=parse,
    readable=lines,
    incident=incident,
    whole=("loki", "loki_plain"),
    corrected={"url": "https://right.example.com/loki"},
    probed=HttpResponse(status=204, headers={}, body=b""),
    bare_success=frozenset({204}),
)
