"""The kind on its own: settings in, request out, answer judged. No server is needed for any of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from tocsin_connector_example import Example

from bridge.app.checking import test_event as made_event
from bridge.model import Blocked, Delivered, EventKind, Retry
from bridge.ports import HttpResponse

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def connector() -> Example:
    return Example(Example.Settings(**Example.example))


def test_a_message_says_what_and_how_bad_it_is(connector: Example) -> None:
    rendered = connector.render([made_event("i1", 1, EventKind.OPENED, NOW)], None, "")
    sealed = connector.seal(rendered.request, rendered.event_ids, NOW)

    assert json.loads(sealed.body)["priority"] == 2
    assert sealed.headers["authorization"] == "Bearer tk_example_0000"
    assert b"tk_example" not in rendered.request.body


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, b'{"id":"x"}', Delivered),
        (200, b"<html>log in</html>", Blocked),
        (401, b"", Blocked),
        (429, b"", Retry),
    ],
)
def test_each_answer_is_read(connector: Example, status: int, body: bytes, verdict: type) -> None:
    rendered = connector.render([made_event("i1", 1, EventKind.OPENED, NOW)], None, "")
    answer = HttpResponse(status=status, headers={}, body=body)

    assert [type(each) for each in connector.judge(rendered, answer)] == [verdict]
