from __future__ import annotations

import json

from expected import Expected


def parse(_case: str, sent: bytes) -> None:
    (record,) = json.loads(sent)["records"]
    assert all(isinstance(value, str) for value in record.values())
    assert all(isinstance(value, str) for value in json.loads(record["additional_info"]).values())
    assert len(record["description"]) <= 4000
    assert "\x1b" not in sent.decode()


EXPECTED = Expected(
    variants={
        "servicenow_key": {
            "name": "itom",
            "kind": "servicenow",
            "url": "https://example.service-now.com",
            "api_key": "now_api_key_of_tocsin",
        }
    },
    secrets=("servicenow-password-of-tocsin", "now_api_key_of_tocsin"),
    parse=parse,
    corrected={"url": "https://right.service-now.com"},
)
