from __future__ import annotations

import json
from typing import Any

from expected import Expected

from bridge.ports import HttpResponse

SIGNATURE = "sv=2022-11-02&sr=c&sp=c&se=2030-01-01T00%3A00%3A00Z&sig=sEcReT%2Bsignature%3D"


def parse(_case: str, sent: bytes) -> None:
    assert sent.endswith(b"\n")
    for line in sent.splitlines():
        assert json.loads(line)["event_id"]


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent.splitlines()[0])["incident"]


EXPECTED = Expected(
    variants={
        "blob_sas": {
            "name": "lake",
            "kind": "blob",
            "url": "http://127.0.0.1:10000/devstoreaccount1",
            "container": "incidents",
            "path": "",
            "sas_token": SIGNATURE,
        },
        "blob_parquet": {
            "name": "lake",
            "kind": "blob",
            "url": "https://example.blob.core.windows.net",
            "container": "incidents",
            "sas_token": SIGNATURE,
            "stored_as": "parquet",
        },
    },
    secrets=("sEcReT%2Bsignature%3D", "sEcReT+signature="),
    parse=parse,
    incident=incident,
    whole=("blob", "blob_parquet", "blob_sas"),
    corrected={"url": "https://right.example.com"},
    probed=HttpResponse(status=201, headers={"etag": '"0x8D"'}, body=b""),
)
