from __future__ import annotations

import json
from typing import Any

from expected import Expected

from bridge.ports import HttpResponse

MINIO = {
    "name": "lake", "kind": "s3", "region": "us-east-1", "endpoint": "https://minio.example.com:9000", "bucket": "tocsin",
    "path": "{tenant}/{year}/{month}/{day}", "max_events": 1, "access_key_id": "minio",
    "secret_access_key": "minio-secret-key-of-the-test",
}  # fmt: skip
OCSF = {
    "name": "lake", "kind": "s3", "region": "eu-west-1", "bucket": "aws-security-data-lake-eu-west-1-example",
    "path": "ext/tocsin/region=eu-west-1/accountId=123456789012/eventDay={year}{month}{day}", "format": "ocsf-incident",
}  # fmt: skip
PARQUET = {"stored_as": "parquet"}
CLASSES = {"s3_ocsf": 2005, "s3_security_lake": 2005, "s3_security_lake_detection": 2004}
DETECTION = OCSF | {"format": "ocsf-detection"}


def parse(case: str, sent: bytes) -> None:
    for line in sent.splitlines():
        event = json.loads(line)
        assert event.get("class_uid") == CLASSES.get(case)
        assert case in CLASSES or event["schema"] == "tocsin.event/1"


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["incident"]


EXPECTED = Expected(
    variants={
        "s3_minio": MINIO,
        "s3_ocsf": OCSF,
        "s3_security_lake": OCSF | PARQUET,
        "s3_security_lake_detection": DETECTION | PARQUET,
    },
    secrets=("minio-secret-key-of-the-test",),
    parse=parse,
    incident=incident,
    whole=("s3", "s3_minio"),
    url="endpoint",
    corrected={"endpoint": "https://right.example.com"},
    probed=HttpResponse(
        status=400,
        headers={},
        body=b"<Error><Code>BadDigest</Code><Message>The Content-MD5 you specified did not match</Message></Error>",
    ),
)
