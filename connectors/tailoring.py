"""What every destination can be told beside its kind's own settings: words of one's own, and statuses read otherwise.

Rules: pure, a thin wrapper around a connector of any kind, third parties' included; no kind knows of it. Where nothing
of it is set there is no wrapper.

Decision: `accept_on`, `drop_on` and `retry_on` look at the HTTP status alone, after the kind has judged, and win for
the statuses that they name: over the kind's reading of the body, too. That is what a gateway in between needs whose
answers no kind can know. Only a request that carries an event is read so: to accept the answer to a question (is it
indexed? does the address work?) would be to call delivered what nobody asked about. All else stays the kind's. The idea
is Benthos' `successful_on`, `drop_on` and `backoff_on`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from typing_extensions import override

from bridge.model import Delivered, Duplicate, Event, Pending, Reject, Retry, Verdict
from bridge.ports import Connector, Http, HttpResponse, Memory, Rendered, Request, Response
from connectors.common import IN_TROUBLE, retry_after_s
from connectors.credentials import DestinationSettings
from connectors.wording import worded

#: Marks a request that carries no event.
ASKS = "asks"


def tailored(connector: Connector, settings: Any) -> Connector:
    """Return the connector as its settings want it; itself where they want nothing."""
    if not isinstance(settings, DestinationSettings) or not settings.is_tailored:
        return connector
    return Tailored(connector, settings)


class Tailored(Connector):
    """A connector whose events are worded, and whose answers are judged, as the settings say."""

    def __init__(self, connector: Connector, settings: DestinationSettings) -> None:
        self._connector = connector
        self._settings = settings
        self.caps = connector.caps

    @override
    def wants(self, event: Event, memory: Memory | None) -> bool:
        return self._connector.wants(event, memory)

    @override
    def render(
        self, events: Sequence[Event], memory: Memory | None, step: str, max_bytes: int | None = None
    ) -> Rendered:
        told = [worded(event, self._settings.title, self._settings.text) for event in events]
        return self._connector.render(told, memory, step, max_bytes)

    @override
    def judge(self, rendered: Rendered, response: Response) -> Sequence[Verdict]:
        verdicts = self._connector.judge(rendered, response)
        if not isinstance(response, HttpResponse) or _asks(rendered.request):
            return verdicts
        if response.status in self._settings.accept_on:
            return tuple(_accepted(verdict) for verdict in verdicts)
        if response.status in self._settings.drop_on:
            return tuple(Reject(reason=_reason(each, response), wished=True) for each in verdicts)
        if response.status in self._settings.retry_on:
            return tuple(_retried(each, response) for each in verdicts)
        return verdicts

    @override
    def seal(self, request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        return self._connector.seal(request, event_ids, now)

    @override
    def ask(self, token: str) -> Request | None:
        return _asking(self._connector.ask(token))

    @override
    def probe(self) -> Request | None:
        return _asking(self._connector.probe())


def _asking(request: Request | None) -> Request | None:
    if not isinstance(request, Http):
        return request
    return msgspec.structs.replace(request, about=request.about | {ASKS: "yes"})


def _asks(request: Request) -> bool:
    return isinstance(request, Http) and ASKS in request.about


def _accepted(verdict: Verdict) -> Verdict:
    # What the kind knows of its success (a memory, a further call) is kept.
    return verdict if isinstance(verdict, Delivered | Duplicate | Pending) else Delivered()


def _retried(verdict: Verdict, response: HttpResponse) -> Verdict:
    if isinstance(verdict, Retry):
        return verdict
    return Retry(
        reason=_reason(verdict, response), after_s=retry_after_s(response),
        whole_destination=response.status in IN_TROUBLE,
    )  # fmt: skip


def _reason(verdict: Verdict, response: HttpResponse) -> str:
    """Return why, in the kind's words: it has taken its secrets out of them."""
    return getattr(verdict, "reason", "") or f"HTTP {response.status}"
