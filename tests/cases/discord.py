from __future__ import annotations

import json

from expected import Expected
from hypothesis import strategies as st

from bridge.ports import HttpResponse


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def parse(_case: str, sent: bytes) -> None:
    """Assert the limits of docs.discord.com, "Embed Limits", counted in UTF-16 code units."""
    body = json.loads(sent)
    assert body["allowed_mentions"] == {"parse": []}
    (embed,) = body["embeds"]
    fields = embed["fields"]
    assert units(embed["title"]) <= 256
    assert units(embed.get("description", "")) <= 4096
    assert len(fields) <= 25
    assert all(0 < units(each["name"]) <= 256 and 0 < units(each["value"]) <= 1024 for each in fields)
    assert units(embed["footer"]["text"]) <= 2048
    texts = [embed["title"], embed.get("description", ""), embed["footer"]["text"]]
    texts += [each[key] for each in fields for key in ("name", "value")]
    assert sum(map(units, texts)) <= 6000


EXPECTED = Expected(
    secrets=("a-secret-token-of-the-webhook",),
    parse=parse,
    corrected={"url": "https://discord.com/api/webhooks/1/right-token"},
    probed=HttpResponse(
        status=200, headers={}, body=b'{"id":"1234567890","channel_id":"11","type":1,"token":"x"}'
    ),
    memories=(
        ({"id": "77", "severity": "warning", "state": "open", "escalations": "0", "known": ""}, ""),
        ({"id": "77", "severity": "warning", "state": "open", "escalations": "0", "known": ""}, "aloud"),
    ),
    answers={
        "code": st.sampled_from([10008, 10015, 40005, 50035])
        | st.integers()
        | st.text(max_size=3)
        | st.just([1]),
        "id": st.text(max_size=5) | st.integers(),
        "channel_id": st.text(max_size=5) | st.none(),
        "global": st.booleans(),
    },
)
