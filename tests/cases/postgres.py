from __future__ import annotations

import json

from expected import Expected

from bridge.ports import Upserted


def parse(_case: str, sent: bytes) -> None:
    rows = json.loads(sent)
    assert all(row["alerts_total"] == 100 and "\x00" not in str(row) for row in rows)


EXPECTED = Expected(
    secrets=("correct-horse-battery-staple",),
    parse=parse,
    url="",
    corrected={"address": "right.example.com:5432"},
    probed=Upserted(),
)
