from __future__ import annotations

import base64
import json
from typing import Any

from expected import Expected
from hypothesis import strategies as st

from bridge.ports import Http, HttpResponse, Request


def data(request: Request) -> bytes:
    """Return the first message as its subscriber reads it, its attributes behind it."""
    assert isinstance(request, Http)
    message = json.loads(request.body)["messages"][0]
    assert message["attributes"]["incident"] == message["orderingKey"]
    assert all(len(value.encode()) <= 1024 for value in message["attributes"].values())
    return base64.b64decode(message["data"], validate=True)


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["incident"]


EXPECTED = Expected(
    variants={
        "pubsub_cloudevents": {
            "name": "bus",
            "kind": "pubsub",
            "project": "example-monitoring",
            "topic": "incidents",
            "format": "cloudevents",
        }
    },
    readable=data,
    incident=incident,
    whole=("pubsub", "pubsub_cloudevents"),
    corrected={"url": "https://right.example.com"},
    probed=HttpResponse(status=200, headers={}, body=b'{"permissions":["pubsub.topics.publish"]}'),
    answers={
        "messageIds": st.lists(st.text(max_size=3) | st.integers(), max_size=4) | st.integers(),
        "permissions": st.lists(st.text(max_size=3), max_size=2) | st.none(),
        "error": st.fixed_dictionaries(
            {},
            optional={
                "status": st.sampled_from(["INVALID_ARGUMENT", "ABORTED", "UNAVAILABLE", "x"])
                | st.integers(),
                "message": st.text(max_size=5) | st.none(),
                "details": st.lists(
                    st.fixed_dictionaries(
                        {}, optional={"retryDelay": st.text(max_size=9), "reason": st.integers()}
                    )
                    | st.integers()
                )
                | st.none(),
            },
        ),
    },
)
