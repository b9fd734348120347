"""One attempt: seal, send, judge. Whatever happens there is an answer with one verdict per event.

Rule: what a sender or a connector raises is a bug of ours, never the destination's fault; the attempt then
counts as unanswered, so that the event stays and goes again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from bridge.dispatch.surroundings import Surroundings
from bridge.model import Retry, Verdict, Word
from bridge.ports import Connector, Rendered, Request, Response, Unreached

_LOG = logging.getLogger(__name__)
#: Senders keep their own timeout; this much later they are cut off.
GRACE_S = 5.0
#: The event id that a probe's answer is judged with.
PROBE_ID = "00000000-0000-0000-0000-000000000000"


class Answer(Word, frozen=True, kw_only=True):
    """What came back, and what it means for each event."""

    response: Response
    verdicts: tuple[Verdict, ...]


class Sending:
    """Sends for one destination."""

    def __init__(self, name: str, connector: Connector, around: Surroundings) -> None:
        self._name = name
        self._connector = connector
        self._around = around

    async def send(self, rendered: Rendered) -> Answer:
        """Return what the destination says about a request."""
        response = await self._reach(rendered.request, rendered.event_ids)
        return Answer(response=response, verdicts=self._judge(rendered, response))

    async def ask(self, rendered: Rendered, token: str) -> Answer:
        """Return what the destination says about an acknowledgement it owes for `rendered`."""
        request = self._connector.ask(token)
        if request is None:
            lost = Retry(reason="there is no way to ask for the acknowledgement")
            unreached = Unreached(reason=lost.reason, maybe_sent=True)
            return Answer(response=unreached, verdicts=(lost,) * len(rendered.event_ids))
        return await self.send(Rendered(request=request, event_ids=rendered.event_ids, step=rendered.step))

    async def probe(self, request: Request) -> Answer:
        """Return what the destination says about a harmless request."""
        return await self.send(Rendered(request=request, event_ids=(PROBE_ID,)))

    async def _reach(self, request: Request, event_ids: Sequence[str]) -> Response:
        timeout_s = self._around.settings.attempt_timeout_s
        try:
            sealed = self._connector.seal(request, event_ids, self._around.clock())
        except Exception as error:  # noqa: BLE001 (see the rule above)
            self._bug("A request could not be sealed.")
            # Not "local": that blocks a destination, and nothing is known against it.
            return Unreached(
                reason=f"it could not be sealed ({type(error).__name__})", maybe_sent=False, kind="reset"
            )
        sender = self._around.senders.get(type(sealed))
        if sender is None:
            reason = f"there is no sender for {type(sealed).__name__} requests"
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                return await sender.send(sealed, timeout_s=timeout_s)
        except TimeoutError:
            return Unreached(reason=f"no answer within {timeout_s:g} s", maybe_sent=True, kind="timeout")
        except Exception as error:  # noqa: BLE001 (see the rule above)
            self._bug("A sender failed.")
            return Unreached(
                reason=f"the sender failed ({type(error).__name__})", maybe_sent=True, kind="reset"
            )

    def _judge(self, rendered: Rendered, response: Response) -> tuple[Verdict, ...]:
        try:
            verdicts = tuple(self._connector.judge(rendered, response))
        except Exception:  # noqa: BLE001 (see the rule above)
            self._bug("An answer could not be judged.")
            verdicts = ()
        if len(verdicts) == len(rendered.event_ids):
            return verdicts
        unclear = Retry(reason="the answer could not be judged", maybe_sent=True)
        return (unclear,) * len(rendered.event_ids)

    def _bug(self, message: str) -> None:
        _LOG.exception(message, extra={"event": "dispatch_bug", "destination": self._name})
