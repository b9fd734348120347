"""From lines that are due to requests: reads their events, leaves out what is not needed, renders.

Rules: blocking and without side effects; the worker runs it in a thread, since an event can be large. A
connector that raises is a bug of ours: the events at fault are given up with their bytes still in the state,
the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from bridge.delivery import Claim, Line, LineChange, LineKey, Policy, Told, coalesce, move
from bridge.model import Delivery, DeliveryState, Event, Word, told_instead
from bridge.ports import Connector, Memory, Rendered, encode_request

_LOG = logging.getLogger(__name__)

#: Of stored events one round reads, beyond the first: some tenths of a second, and ten times as much memory.
ROUND_BYTES = 8 * 2**20
GONE = (
    "the event is no longer stored, so it cannot be retried: it waited longer than `retention.incidents`, "
    "or the state was begun anew"
)


class Ready(Word, frozen=True, kw_only=True):
    """One request to claim and send."""

    claim: Claim
    rendered: Rendered
    told: dict[LineKey, Told]


class Prepared(Word, frozen=True, kw_only=True):
    """What to send, what needs no request, and what that changes about the lines."""

    ready: tuple[Ready, ...] = ()
    settled: tuple[Delivery, ...] = ()
    lines: tuple[LineChange, ...] = ()


class _Left:
    """How much one round may still read, so that a backlog is not decoded before anything of it is sent."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.size_bytes = ROUND_BYTES

    def is_some(self) -> bool:
        """Return whether another event may be read."""
        return self.events > 0 and self.size_bytes > 0


class _Ended:
    """Collects what ends without a request."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.lines: list[LineChange] = []


class _Chosen(Word, frozen=True, kw_only=True):
    """One delivery that goes, with its event."""

    delivery: Delivery
    event: Event
    line: Line


class Preparing:
    """Makes requests for one destination."""

    def __init__(
        self,
        connector: Connector,
        read_event: Callable[[str], bytes | None],
        policy: Policy,
        redact: Callable[[Event], Event] | None = None,
    ) -> None:
        self._connector = connector
        self._read_event = read_event
        self._policy = policy
        self._redact = redact  # None: the destination may have all of it

    def __call__(self, lines: Sequence[Line], now: datetime, requests: int, events: int) -> Prepared:
        """Return at most `requests` requests of at most `events` events each, the first lines first.

        Raises:
            StorageError: The events cannot be read.
        """
        ended = _Ended()
        chosen: list[_Chosen] = []
        left = _Left(requests * events)
        for line in lines:
            if not left.is_some():
                break
            chosen += self._choose(line, now, min(events, left.events), ended, left)
            left.events = requests * events - len(chosen)
        ready: list[Ready] = []
        for batch in _batches(chosen, events):
            if len(ready) >= requests:
                break
            ready += self._render(batch, ended)
        return Prepared(
            ready=tuple(ready[:requests]), settled=tuple(ended.deliveries), lines=tuple(ended.lines)
        )

    def leave_out(self, lines: Sequence[Line], now: datetime) -> Prepared:
        """Return what of these lines needs no request, and nothing to send.

        Raises:
            StorageError: The events cannot be read.
        """
        ended = _Ended()
        for line in lines:
            self._choose(line, now, 1, ended, _Left(1))
        return Prepared(settled=tuple(ended.deliveries), lines=tuple(ended.lines))

    def _choose(self, line: Line, now: datetime, at_most: int, ended: _Ended, left: _Left) -> list[_Chosen]:
        known: dict[str, Event | None] = {}

        def event_of(delivery: Delivery) -> Event | None:
            if delivery.event_id not in known:
                known[delivery.event_id] = self._event(delivery, left)
            return known[delivery.event_id]

        def wanted(delivery: Delivery) -> bool:
            event = event_of(delivery)
            return event is None or self._wants(event, line.memory)

        caps = self._connector.caps
        plan = coalesce(line, caps, wanted, now, self._policy, at_most=at_most, has_room=left.is_some)
        chosen: list[_Chosen] = []
        for delivery in plan.send:
            event = event_of(delivery)
            if event is None:
                ended.deliveries.append(move(delivery, DeliveryState.DEAD, reason=GONE))
                break  # what follows it in the line has its turn when this is committed
            chosen.append(_Chosen(delivery=delivery, event=event, line=line))
        if chosen or not plan.send or caps.mode == "every":
            # A state that is gone takes the place of none: the older ones are decided on anew.
            ended.deliveries += plan.settled
        if plan.told is not None:
            ended.lines.append(LineChange(key=line.key, told=plan.told))
        return chosen

    def _event(self, delivery: Delivery, left: _Left) -> Event | None:
        body = self._read_event(delivery.event_id)
        if body is None:
            return None
        left.size_bytes -= len(body)
        try:
            event = msgspec.json.decode(body, type=Event)
        except msgspec.MsgspecError:
            _LOG.exception(
                "A stored event cannot be read.",
                extra={"event": "dispatch_bug", "event_id": delivery.event_id},
            )
            return None
        event = event if self._redact is None else self._redact(event)
        return _instead(event, delivery.instead_of) if delivery.instead_of else event

    def _wants(self, event: Event, memory: Memory | None) -> bool:
        try:
            return self._connector.wants(event, memory)
        except Exception:  # noqa: BLE001 (a bug of one kind must not stop the others)
            _LOG.exception(
                "A connector could not decide on an event.",
                extra={"event": "dispatch_bug", "event_id": event.event_id},
            )
            return True

    def _render(self, batch: Sequence[_Chosen], ended: _Ended) -> list[Ready]:
        try:
            rendered = self._connector.render(
                [each.event for each in batch],
                batch[0].line.memory,
                batch[0].delivery.step,
                batch[0].delivery.fit_bytes or None,
            )
            body = encode_request(rendered.request)
        except Exception as error:  # noqa: BLE001 (as above)
            if len(batch) > 1:
                return [ready for each in batch for ready in self._render([each], ended)]
            _LOG.exception(
                "A connector could not render an event.",
                extra={"event": "dispatch_bug", "event_id": batch[0].event.event_id},
            )
            reason = f"it could not be rendered ({type(error).__name__}); the log has the details"
            ended.deliveries.append(move(batch[0].delivery, DeliveryState.DEAD, reason=reason))
            return []
        carried = batch[: len(rendered.event_ids)]  # the others did not fit and have their turn later
        claim = Claim(
            destination=carried[0].delivery.destination,
            request=body,
            event_ids=tuple(each.event.event_id for each in carried),
            step=carried[0].delivery.step,
            deliveries=tuple(each.delivery for each in carried),
        )
        return [
            Ready(
                claim=claim,
                rendered=replace(rendered, step=claim.step),
                told={each.line.key: each.line.told for each in carried},
            )
        ]


def _instead(event: Event, destination: str) -> Event:
    """Return the event marked as one that another destination does not take."""
    view = replace(event.incident, title=told_instead(event.incident.title, destination))
    return replace(event, incident=view, instead_of=destination)


def _batches(chosen: Sequence[_Chosen], events: int) -> Iterator[list[_Chosen]]:
    """Yield what can go together, up to `events`; a later call, and what was too large, goes alone."""
    batch: list[_Chosen] = []
    for each in chosen:
        if each.delivery.step or each.delivery.fit_bytes:
            yield [each]
            continue
        batch.append(each)
        if len(batch) == events:
            yield batch
            batch = []
    if batch:
        yield batch
