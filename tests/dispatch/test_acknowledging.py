"""Splunk's indexer acknowledgement through the dispatcher: a collector that indexes, never does, forgets, or may not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from destinations import build
from dispatching import World
from msgspec.structs import replace
from typing_extensions import override

from bridge.delivery import Policy
from bridge.dispatch import DispatchSettings
from bridge.model import EventKind
from bridge.ports import Http, HttpResponse, Request, Response

OPENED, UPDATED = EventKind.OPENED, EventKind.UPDATED
#: An acknowledgement is waited for for a minute, not ten.
QUICK = DispatchSettings(policies={"siem": Policy(pending_s=60)}, stuck_after_s=90)
CHANNEL = "x-splunk-request-channel"


class Collector(World):
    """A world whose Splunk keeps its acknowledgements in memory, by channel, numbered from 0, each told once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {}, QUICK)
        self.index_after_s = 8.0
        self.acknowledges = True
        self.taken_ids: list[str] = []
        self.bodies: list[bytes] = []
        self.questions: Counter[str] = Counter()
        self.channels: dict[str, dict[str, float]] = {}
        self.down_until = 0.0

    def splunk(self, **settings: Any) -> None:
        """Configure the destination."""
        self.foreign["siem"] = build("splunk", url="http://siem", index=None, **settings)

    def restart(self) -> None:
        """Forget everything that is not indexed, and all numbers."""
        self.channels = {}

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        assert isinstance(request, Http)
        channel = request.headers.get(CHANNEL, "")
        if self.seconds < self.down_until:
            return told(503, text="Server is busy", code=9)
        if request.method == "GET":
            return told(200, text="HEC is healthy", code=17)
        if request.url.endswith("/ack"):
            return self.asked(channel, json.loads(request.body)["acks"])
        self.bodies.append(request.body)
        self.taken_ids += [json.loads(line)["fields"]["event_id"] for line in request.body.split(b"\n")]
        if not self.acknowledges:
            return told(200, text="Success", code=0)
        if not channel:
            return told(400, text="Data channel is missing", code=10)
        known = self.channels.setdefault(channel, {})
        number = str(len(known))
        known[number] = self.seconds
        return told(200, text="Success", code=0, ackId=int(number))

    def asked(self, channel: str, numbers: list[int]) -> HttpResponse:
        if not self.acknowledges:
            return told(400, text="ACK is disabled", code=14)
        known = self.channels.get(channel, {})
        acks = {}
        for number in map(str, numbers):
            self.questions[channel] += 1
            at_s = known.get(number)
            acks[number] = at_s is not None and self.seconds - at_s >= self.index_after_s
            if acks[number]:
                known[number] = float("inf")  # each is told once
        return told(200, acks=acks)


def told(number: int, /, **fields: Any) -> HttpResponse:
    return HttpResponse(status=number, headers={}, body=json.dumps(fields).encode())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Collector]:
    made = Collector(tmp_path)
    made.splunk(indexer_acknowledgement=True)
    yield made
    made.store.close()


async def test_an_event_is_delivered_when_it_is_indexed_and_sent_once(world: Collector) -> None:
    first, second = world.emit("i1", OPENED), world.emit("i1", UPDATED)
    async with world.running():
        await world.run(4)
        assert world.states("siem") == {("i1", 1): "pending", ("i1", 2): "waiting"}
        await world.until(world.is_done, within_s=60)
    assert world.taken_ids == [first, second]
    assert set(world.questions.values()) == {2}  # at 5 s not yet, at 10 s it was
    assert len(world.channels) == 2


async def test_what_is_never_acknowledged_is_sent_again_with_its_bytes_and_told_of(world: Collector) -> None:
    world.index_after_s = float("inf")
    event_id = world.emit("i1", OPENED)
    async with world.running():
        await world.run(170)
        assert len(world.bodies) == 3
        assert set(world.taken_ids) == {event_id}
        assert len(set(world.bodies)) == 1
        (stuck,) = [reason for _, _, kind, reason in world.troubles if kind == "stuck"]
        assert "no acknowledgement in time" in stuck or "not indexed yet" in stuck
        world.index_after_s = 1
        await world.until(world.is_done, within_s=90)
    assert world.states("siem") == {("i1", 1): "delivered"}
    assert world.shown("siem")[0]["maybe_duplicate"]


async def test_what_a_restart_forgot_is_sent_again_whoever_took_its_number(world: Collector) -> None:
    """The numbers begin anew: those of other requests must not answer for what was lost."""
    world.index_after_s = 30
    lost = world.emit("lost", OPENED)
    async with world.running():
        await world.run(6)
        world.restart()
        world.index_after_s = 1
        for number in range(5):
            world.emit(f"new{number}", OPENED)
        world.dispatcher.wake()
        await world.until(lambda: [*world.states("siem").values()].count("delivered") == 5, within_s=120)
        assert world.states("siem")["lost", 1] == "pending"
        await world.until(world.is_done, within_s=120)
    assert Counter(world.taken_ids)[lost] == 2
    assert len(world.taken_ids) == 7


async def test_our_own_restart_asks_on_and_sends_nothing_twice(world: Collector) -> None:
    world.index_after_s = 20
    world.emit("i1", OPENED)
    async with world.running(ends="kill"):
        await world.run(7)
    async with world.running():
        await world.until(world.is_done, within_s=60)
    assert len(world.taken_ids) == 1


async def test_a_question_that_fails_is_asked_again_and_nothing_is_sent_twice(world: Collector) -> None:
    world.emit("i1", OPENED)
    world.index_after_s = 1
    async with world.running():
        await world.run(2)
        world.down_until = 50
        await world.run(45)
        assert world.states("siem") == {("i1", 1): "pending"}
        await world.until(world.is_done, within_s=200)
    assert len(world.taken_ids) == 1


async def test_a_token_without_acknowledgement_blocks_and_taking_the_setting_out_heals_it(
    world: Collector,
) -> None:
    world.acknowledges = False
    world.emit("i1", OPENED)
    async with world.running():
        await world.run(300)
        world.emit("i2", OPENED)
        await world.run(300)
    (blocked,) = [reason for _, _, kind, reason in world.troubles if kind == "blocked"]
    assert "take `indexer_acknowledgement` out" in blocked
    assert len(world.taken_ids) == 1  # nothing is sent again and again meanwhile
    world.splunk()
    async with world.running():
        await world.until(world.is_done, within_s=120)
    assert len(set(world.taken_ids)) == 2
    assert set(world.states("siem").values()) == {"delivered"}


async def test_a_token_that_demands_acknowledgement_blocks_until_the_setting_is_there(
    world: Collector,
) -> None:
    world.splunk()
    world.emit("i1", OPENED)
    async with world.running():
        await world.run(120)
    assert [reason for _, _, kind, reason in world.troubles if kind == "blocked" and "set `indexer" in reason]
    assert world.taken_ids.count(world.taken_ids[0]) == len(world.taken_ids)
    world.taken_ids.clear()
    world.splunk(indexer_acknowledgement=True)
    world.settings = replace(QUICK, marks={"siem": "corrected"})
    async with world.running():
        await world.until(world.is_done, within_s=120)
    assert len(world.taken_ids) == 1
