"""The columns of each format, for files that have columns (Parquet): all of them in every file, in the same order.

A shape is JSON that gives a type of DuckDB by name, nested as the rows are. What a row lacks is NULL there.

Decision: written out, never guessed from the rows. Two batches would be guessed to have two shapes, and a catalogue
that reads both (Glue, Hive) takes the first for the truth. What `tocsin.event/1` has is read from its own words, so
that a field that is added there is a column here; tests hold the shapes of OCSF against its schema and what is written.
Decision: texts by name (labels, annotations) are a `MAP`, times of our own are `TIMESTAMPTZ`, times of OCSF are what
its type `timestamp_t` is, milliseconds in a `BIGINT`, as in the tables that Security Lake itself makes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from bridge.model import Advice, Event, Forecast, RootSuspect
from connectors.formats import Format

TEXT, INTEGER, LONG, NUMBER, TRUTH = "VARCHAR", "INTEGER", "BIGINT", "DOUBLE", "BOOLEAN"
TIME, MAP = "TIMESTAMPTZ", "MAP(VARCHAR, VARCHAR)"
TYPES: dict[type[inspect.Type], str] = {
    inspect.StrType: TEXT,
    inspect.EnumType: TEXT,
    inspect.LiteralType: TEXT,
    inspect.IntType: INTEGER,
    inspect.FloatType: NUMBER,
    inspect.BoolType: TRUTH,
    inspect.DateTimeType: TIME,
    inspect.DictType: MAP,
}


@cache
def shape_of(form: Format) -> str:
    """Return the columns of a format."""
    return msgspec.json.encode(_columns(form)).decode()


def _columns(form: Format) -> dict[str, Any]:
    match form:
        case "event":
            return _fields(Event)
        case "ocsf-incident":
            return _base() | {
                "assignee_group": {"name": TEXT},
                "desc": TEXT,
                "finding_info_list": [_FINDING],
                "priority_id": INTEGER,
                "priority": TEXT,
                "src_url": TEXT,
                "observables": [_OBSERVABLE],
            }
        case "ocsf-detection":
            return _base() | {
                "is_alert": TRUTH,
                "finding_info": _WHOLE | {"related_events": [_RELATED], "related_events_count": INTEGER},
                "remediation": {"desc": TEXT, "references": [TEXT]},
                "resources": [_RESOURCE],
                "observables": [_OBSERVABLE],
            }


# ---- our own words ---------------------------------------------------------------------------------------


def _fields(struct: type[msgspec.Struct]) -> dict[str, Any]:
    known = inspect.type_info(struct)
    if not isinstance(known, inspect.StructType):  # every `Struct` is one
        raise TypeError(struct.__name__)
    return {field.encode_name: _type(field.type) for field in known.fields}


def _type(known: inspect.Type) -> Any:
    match known:
        case inspect.StructType():
            return _fields(known.cls)
        case inspect.VarTupleType():
            return [_type(known.item_type)]
        case inspect.UnionType():
            (one,) = (each for each in known.types if not isinstance(each, inspect.NoneType))
            return _type(one)
        case _:
            return TYPES[type(known)]


# ---- OCSF ------------------------------------------------------------------------------------------------

_TAGS = [{"name": TEXT, "value": TEXT}]
_SEEN = {"created_time": LONG, "first_seen_time": LONG, "last_seen_time": LONG}
_WHOLE: dict[str, Any] = {
    "uid": TEXT, "title": TEXT, "desc": TEXT, **_SEEN, "modified_time": LONG,
    "types": [TEXT], "data_sources": [TEXT], "tags": _TAGS, "src_url": TEXT,
}  # fmt: skip
_FINDING: dict[str, Any] = _WHOLE | {
    "analytic": {"name": TEXT, "type_id": INTEGER, "type": TEXT},
    "related_events_count": INTEGER,
}
_RELATED: dict[str, Any] = {
    "uid": TEXT, "title": TEXT, "desc": TEXT, **_SEEN,
    "severity_id": INTEGER, "severity": TEXT, "status": TEXT, "count": INTEGER, "tags": _TAGS,
}  # fmt: skip
_OBSERVABLE = {"name": TEXT, "type_id": INTEGER, "type": TEXT, "value": TEXT}
_RESOURCE = {"name": TEXT, "type": TEXT, "ip": TEXT, "hostname": TEXT, "namespace": TEXT}
_METADATA: dict[str, Any] = {
    "product": {"name": TEXT, "vendor_name": TEXT}, "version": TEXT, "profiles": [TEXT], "uid": TEXT,
    "correlation_uid": TEXT, "sequence": INTEGER, "tenant_uid": TEXT, "event_code": TEXT,
    "log_name": TEXT, "log_version": TEXT, "is_truncated": TRUTH,
}  # fmt: skip


def _base() -> dict[str, Any]:
    return {
        "activity_id": INTEGER, "activity_name": TEXT, "category_uid": INTEGER, "category_name": TEXT,
        "class_uid": INTEGER, "class_name": TEXT, "type_uid": LONG, "type_name": TEXT,
        "severity_id": INTEGER, "severity": TEXT, "status_id": INTEGER, "status": TEXT, "status_detail": TEXT,
        "time": LONG, "start_time": LONG, "end_time": LONG, "duration": LONG, "count": INTEGER,
        "message": TEXT, "metadata": _METADATA, "unmapped": _unmapped(),
    }  # fmt: skip


def _unmapped() -> dict[str, Any]:
    return {
        "origin": TEXT, "alerts_total": INTEGER, "alerts_firing": INTEGER, "truncated": INTEGER,
        "escalations": INTEGER, "anomaly": NUMBER, "anomaly_reason": TEXT, "common_labels": MAP,
        "root": [_fields(RootSuspect)], "suspect": TEXT, "together": TEXT, "merged_into": TEXT,
        "split_from": TEXT, "expired": TRUTH, "degraded": TRUTH, "note": TEXT, "author": TEXT,
        "forecast": _fields(Forecast), "recommendations": [_fields(Advice)],
    }  # fmt: skip
