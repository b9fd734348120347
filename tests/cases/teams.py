from __future__ import annotations

import json

from expected import Expected
from hypothesis import strategies as st

URL = (
    "https://prod-00.westeurope.logic.azure.com:443/workflows/0123456789abcdef0123456789abcdef/triggers"
    "/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=example-signature"
)


def parse(_case: str, sent: bytes) -> None:
    (attachment,) = json.loads(sent)["attachments"]
    card = attachment["content"]
    assert (card["type"], attachment["contentType"]) == (
        "AdaptiveCard",
        "application/vnd.microsoft.card.adaptive",
    )
    for block in card["body"]:
        assert block["type"] == "RichTextBlock"  # no Markdown in it
        for run in block["inlines"]:
            assert run["type"] == "TextRun"
            assert run["text"]
            assert run["text"].isprintable()
    for action in card.get("actions", ()):
        assert action["url"].startswith("https://")


EXPECTED = Expected(
    secrets=("example-signature",),
    parse=parse,
    bare_success=frozenset(),
    memories=(
        ({"severity": "warning", "state": "open", "escalations": "0", "known": "00000000"}, ""),
        ({"severity": "critical", "state": "closed", "escalations": "0", "known": ""}, ""),
    ),
    answers={"error": st.text(max_size=5) | st.dictionaries(st.just("code"), st.text(max_size=5))},
)
