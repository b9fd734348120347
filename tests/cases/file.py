from __future__ import annotations

import json
from typing import Any

from expected import Expected

from bridge.ports import Appended


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["incident"]


EXPECTED = Expected(
    variants={
        "file_ocsf": {
            "name": "archive",
            "kind": "file",
            "path": "./data/ocsf.jsonl",
            "format": "ocsf-incident",
        }
    },
    incident=incident,
    whole=("file",),
    url="",
    corrected={"path": "./right.jsonl"},
    probed=Appended(),
    has_max_bytes=False,
    has_ca_file=False,
)
