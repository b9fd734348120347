from __future__ import annotations

import json
import re

from expected import Expected
from hypothesis import strategies as st

from bridge.ports import HttpResponse

TOLD = {"severity": "warning", "state": "open", "escalations": "0", "known": ""}


def parse(_case: str, sent: bytes) -> None:
    """Assert what a card may hold: 100 widgets, texts of a small HTML, links that are some."""
    body = json.loads(sent)
    (card,) = body["cardsV2"]
    widgets = [each for section in card["card"]["sections"] for each in section["widgets"]]
    assert 0 < len(widgets) <= 100
    assert set(card["card"]["header"]) == {"title", "subtitle"}
    for widget in widgets:
        ((kind, value),) = widget.items()
        assert kind in {"textParagraph", "decoratedText", "buttonList"}
        if kind == "buttonList":
            assert all(each["onClick"]["openLink"]["url"].startswith("http") for each in value["buttons"])
        else:
            assert value["text"]
            assert re.fullmatch(r"(</?b>|&(amp|lt|gt);|[^<>&])*", value["text"])
    assert "<" not in body["fallbackText"]
    assert body["thread"]["threadKey"]


EXPECTED = Expected(
    variants={
        "google_chat_webhook": {
            "name": "chat",
            "kind": "google_chat",
            "url": "https://chat.googleapis.com/v1/spaces/AAAA/messages?key=a-key-of-the-test&token=a-token-of-the-test",
        }
    },
    secrets=("a-key-of-the-test", "a-token-of-the-test"),
    parse=parse,
    url="api_url",
    urls={"google_chat_webhook": "url"},
    corrected={"api_url": "https://right.example.com"},
    corrections={"google_chat_webhook": {"url": "https://right.example.com/v1/spaces/A/messages?key=k"}},
    probed=HttpResponse(status=200, headers={}, body=b'{"name":"spaces/AAAAexample","spaceType":"SPACE"}'),
    memories=((TOLD, ""), (TOLD, "thread"), (TOLD, "change"), (None, "change")),
    answers={"name": st.sampled_from(["spaces/A/messages/B", "x"]) | st.integers() | st.none()},
)
