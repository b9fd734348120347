from __future__ import annotations

import json
from typing import Any

from expected import Expected

from bridge.ports import Http, Request

SIGNATURE = "SharedAccessSignature sr=example.servicebus.windows.net%2Fincidents&sig=sEnD%2Bsignature%3D&se=1893456000&skn=send"


def bodies(request: Request) -> bytes:
    assert isinstance(request, Http)
    messages = json.loads(request.body)
    assert len({each["BrokerProperties"]["PartitionKey"] for each in messages}) == 1
    for each in messages:
        assert each["UserProperties"]["event_id"] == json.loads(each["Body"])["event_id"]
        assert all(
            isinstance(value, str) and value.isprintable() for value in each["UserProperties"].values()
        )
    return b"\n".join(each["Body"].encode() for each in messages)


def parse(_case: str, sent: bytes) -> None:
    for line in sent.splitlines():
        assert json.loads(line)["event_id"]


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent.splitlines()[0])["incident"]


EXPECTED = Expected(
    variants={
        "eventhubs_sas": {
            "name": "bus",
            "kind": "eventhubs",
            "url": "https://example.servicebus.windows.net",
            "hub": "incidents",
            "sas_token": SIGNATURE,
        }
    },
    secrets=("sEnD%2Bsignature%3D", "sEnD+signature="),
    parse=parse,
    readable=bodies,
    incident=incident,
    whole=("eventhubs", "eventhubs_sas"),
    corrected={"url": "https://right.example.com"},
    bare_success=frozenset({201}),
)
