from __future__ import annotations

import json
import re
from typing import Any

from expected import Expected

from bridge.ports import FramesResponse

VARIANTS: dict[str, dict[str, Any]] = {
    "syslog_json": {"name": "log", "kind": "syslog", "address": "127.0.0.1:601", "transport": "relp"},
    "syslog_cef": {
        "name": "arcsight",
        "kind": "syslog",
        "address": "[::1]:514",
        "transport": "tcp",
        "format": "cef",
        "max_message_bytes": 2048,
    },
}


def json_of(sent: bytes) -> dict[str, Any]:
    text = sent.decode()
    return json.loads(text[text.index("] {") + 2 :])


def parse(case: str, sent: bytes) -> None:
    text = sent.decode()
    assert not set(text) & {"\r", "\n", "\x00", "\x1b", "\x85", "\u2028"} or case == "syslog_json"
    assert "\n" not in text
    assert len(sent) <= VARIANTS.get(case, {}).get("max_message_bytes", 8096)
    assert re.match(r"<13[0-7]>1 2026-11-23T22:00:07\.\d+Z tocsin ", text)
    if case == "syslog_json":
        assert json_of(sent)["event_id"]


EXPECTED = Expected(
    variants=VARIANTS,
    parse=parse,
    count=re.compile(rb'100 of 100|"alerts_total":100|alertsTotal=100|cn1=100'),
    incident=lambda _case, sent: json_of(sent)["incident"],
    whole=("syslog_json",),
    url="",
    corrected={"address": "right.example.com:7"},
    probed=FramesResponse(accepted=0),
    has_max_bytes=False,
)
