from __future__ import annotations

import json
from typing import Any

from expected import Expected
from hypothesis import strategies as st

from bridge.ports import HttpResponse


def pairs(sent: bytes) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return what a cluster reads: operation and document, in turns."""
    assert sent.endswith(b"\n")
    lines = [json.loads(line) for line in sent.decode().split("\n")[:-1]]
    return list(zip(lines[::2], lines[1::2], strict=True))


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= leaves(inner, f"{path}.{key}" if path else key)
        return found
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return {key: leaf for each in value for key, leaf in leaves(each, path).items()}
    return {path: value}


def parse(_case: str, sent: bytes) -> None:
    for operation, document in pairs(sent):
        assert set(operation) <= {"create", "index"}
        if "create" in operation:
            assert operation["create"]["_id"] == document["event"]["id"]
        assert all(key and "." not in key for key in document.get("labels", {}))
        assert all(len(key) < 100 for key in leaves(document))


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(pairs(sent)[0][1]["event"]["original"])["incident"]


item = st.fixed_dictionaries(
    {},
    optional={
        "status": st.integers(100, 599) | st.text(max_size=3),
        "error": st.text(max_size=5)
        | st.fixed_dictionaries(
            {}, optional={"type": st.sampled_from(["version_conflict_engine_exception", "x"])}
        ),
    },
)
EXPECTED = Expected(
    variants={
        "elastic_stream": {
            "name": "opensearch",
            "kind": "elastic",
            "url": "https://search.example.com/elastic/",
            "username": "tocsin",
            "password": "correct-horse-battery",
        }
    },
    secrets=(
        "VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw==",
        "correct-horse-battery",
        "dG9jc2luOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==",
    ),
    parse=parse,
    incident=incident,
    whole=("elastic", "elastic_stream"),
    corrected={"url": "https://right.example.com"},
    probed=HttpResponse(status=200, headers={}, body=b'{"version":{"number":"9.4.0"}}'),
    answers={
        "errors": st.booleans(),
        "items": st.lists(
            st.dictionaries(st.sampled_from(["create", "index", "x"]), item | st.none(), max_size=2)
            | st.integers(),
            max_size=8,
        ),
    },
)
