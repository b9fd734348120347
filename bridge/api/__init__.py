"""The HTTP read API and the few actions of this release: what people, scripts and the command line ask.

Rules: a credential sees its own tenant and nothing else; what is another tenant's is answered as if it did
not exist. Lists show what the analyst has committed so far. Every error of `/api/` is problem+json (RFC 9457)
with a `detail` that says what to do. Stores are asked in threads, few at a time, so that a slow disk or a
curious script never holds up intake, which shares this process. Nothing here writes to a store: a delivery is
retried or dropped by the dispatcher's store, a quarantined body and feedback go in by the inbox like any webhook.

Decision: unknown query parameters are an error. A mistyped filter that is ignored shows everything and looks
like an answer.

Rooms: `surroundings` is what the API asks of the front it runs in, `asking` reads questions and words
refusals, `correcting` takes what people say of incidents,
`pressing` what they press in Slack and do in PagerDuty, `waiting` says why a delivery waits, `answering` has
the handlers, `elsewhere` the root and the paths at which there is nothing.
"""

from __future__ import annotations

from bridge.api.answering import Api
from bridge.api.elsewhere import explain
from bridge.api.surroundings import (
    AnalystHealth,
    DestinationHealth,
    Health,
    QuotaHealth,
    Reloaded,
    Surroundings,
)

__all__ = [
    "AnalystHealth",
    "Api",
    "DestinationHealth",
    "Health",
    "QuotaHealth",
    "Reloaded",
    "Surroundings",
    "explain",
]
