from __future__ import annotations

import json
from typing import Any

from expected import Expected

from bridge.model import Reject

SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def incident(_case: str, sent: bytes) -> dict[str, Any]:
    return json.loads(sent)["data"]["incident"]


JWT_KEY = "an-example-key-of-bearer-tokens-0123456789"

EXPECTED = Expected(
    variants={
        "callback_cloudevents": {
            "name": "automation",
            "kind": "callback",
            "url": "https://automation.example.com/hooks/tocsin",
            "secret": SIGNING_SECRET,
            "format": "cloudevents",
        },
        "callback_jwt": {
            "name": "gateway",
            "kind": "callback",
            "url": "https://automation.example.com/hooks/tocsin",
            "secret": SIGNING_SECRET,
            "jwt_key": JWT_KEY,
        },
    },
    secrets=(SIGNING_SECRET, "/hooks/tocsin", JWT_KEY),
    incident=incident,
    whole=("callback", "callback_cloudevents"),
    # A callback promises no words: any 2xx of its own address is its success (Standard Webhooks).
    bare_success=frozenset({200, 201, 204}),
    statuses=dict.fromkeys((400, 409, 422), Reject),
)
