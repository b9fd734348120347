from __future__ import annotations

import json
from typing import Any

from expected import Expected
from hypothesis import strategies as st

from bridge.ports import HttpResponse


def parse(_case: str, sent: bytes) -> None:
    for line in sent.splitlines():
        written = json.loads(line)
        assert written.get("schema") == "tocsin.event/1" or written["class_uid"] == 2005


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["incident"]


EXPECTED = Expected(
    variants={
        "gcs_ocsf": {"name": "lake", "kind": "gcs", "bucket": "example-incidents", "format": "ocsf-incident"},
        "gcs_parquet": {"name": "lake", "kind": "gcs", "bucket": "example-incidents", "stored_as": "parquet"},
    },
    parse=parse,
    incident=incident,
    whole=("gcs", "gcs_parquet"),
    corrected={"url": "https://right.example.com"},
    probed=HttpResponse(status=200, headers={}, body=b'{"permissions":["storage.objects.create"]}'),
    answers={"name": st.text(max_size=5) | st.integers(), "generation": st.integers() | st.text(max_size=3)},
)
