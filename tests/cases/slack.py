from __future__ import annotations

from expected import Expected
from hypothesis import strategies as st

from bridge.ports import HttpResponse

EXPECTED = Expected(
    variants={
        "slack_buttons": {
            "name": "chat",
            "kind": "slack",
            "token": "xoxb-0000-example",
            "channel": "#incidents",
            "buttons": True,
        },
        "slack_webhook": {
            "name": "chat",
            "kind": "slack",
            "url": "https://hooks.slack.com/services/T0/B0/veryverysecret",
        },
    },
    secrets=("xoxb-0000-example", "veryverysecret"),
    url="api_url",
    urls={"slack_webhook": "url"},
    corrected={"api_url": "https://right.example.com/api"},
    corrections={"slack_webhook": {"url": "https://right.example.com/x"}},
    probed=HttpResponse(status=200, headers={}, body=b'{"ok":true,"team":"T"}'),
    memories=(({"channel": "C1", "ts": "1.2", "open": "1"}, ""), ({"channel": "C1", "ts": "1.2"}, "1")),
    answers={
        "ok": st.booleans() | st.none(),
        "error": st.sampled_from(["ratelimited", "invalid_auth", "message_not_found", "x"]) | st.integers(),
        "channel": st.text(max_size=5) | st.integers(),
        "ts": st.text(max_size=5) | st.none(),
    },
)
