from __future__ import annotations

from typing import Any

from expected import Expected
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from bridge.ports import HttpResponse


def record_of(sent: bytes) -> tuple[dict[str, Any], Any]:
    """Return the attributes of the only record, and the record."""
    (logs,) = logs_service_pb2.ExportLogsServiceRequest.FromString(sent).resource_logs
    (scope,) = logs.scope_logs
    (record,) = scope.log_records
    return {each.key: plain(each.value) for each in record.attributes}, record


def plain(value: Any) -> Any:
    which = value.WhichOneof("value")
    found = getattr(value, which)
    return [plain(each) for each in found.values] if which == "array_value" else found


def parse(_case: str, sent: bytes) -> None:
    attributes, record = record_of(sent)
    assert attributes["tocsin.event.id"]
    assert record.body.string_value
    assert record.severity_number > 0


EXPECTED = Expected(
    variants={
        "otlp_vendor": {
            "name": "vendor",
            "kind": "otlp",
            "url": "https://otlp.example.com/otlp/",
            "token": "key-of-the-vendor",
            "token_header": "x-api-key",
        },
        "otlp_basic": {
            "name": "cloud",
            "kind": "otlp",
            "url": "https://otlp.example.com/otlp",
            "username": "123456",
            "password": "glc-of-the-stack",
        },
    },
    secrets=(
        "bearer-of-the-collector",
        "key-of-the-vendor",
        "glc-of-the-stack",
        "MTIzNDU2OmdsYy1vZi10aGUtc3RhY2s=",
    ),
    parse=parse,
    corrected={"url": "https://right.example.com:4318"},
    probed=HttpResponse(status=200, headers={}, body=b""),
    empty_success=frozenset({200, 201, 204}),
    answers={
        "partialSuccess": st.dictionaries(
            st.sampled_from(["rejectedLogRecords", "errorMessage"]), st.text(max_size=3) | st.integers()
        )
        | st.integers()
    },
)
