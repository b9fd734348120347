"""The dispatcher on its straight path: order, repetition, newest states, acknowledgements; time is virtual."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dispatching import CHAT, EVERY, ONE, PAGER, World, answer, silence
from msgspec.structs import replace

from bridge.delivery import Policy, Retention
from bridge.dispatch import Dispatcher, DispatchSettings
from bridge.model import EventKind, IncidentState
from bridge.ports import Http, HttpResponse, Request
from bridge.storage.deliveries import OutboxReader
from connectors.credentials import Secret
from connectors.kinds.pagerduty import PagerDuty, PagerDutySettings

OPENED, UPDATED, ESCALATED, CLOSED = (
    EventKind.OPENED,
    EventKind.UPDATED,
    EventKind.ESCALATED,
    EventKind.CLOSED,
)
Make = Callable[..., World]
#: What PagerDuty says to what it takes.
ENQUEUED = HttpResponse(status=202, headers={}, body=b'{"status":"success","message":"Event processed"}')
#: For stories of hours: looks around less often, so that there is less to go through.
HOURS = DispatchSettings(poll_s=20, look_every_s=20, measure_every_s=20)


def in_order(taken: list[tuple[str, int]]) -> bool:
    """Return whether each incident's events came in order; a repeat may follow its first coming at once."""
    last: dict[str, int] = {}
    for incident, seq in taken:
        if seq < last.get(incident, 0):
            return False
        last[incident] = seq
    return True


# ---- the straight path -------------------------------------------------------------------------------------


async def test_an_event_reaches_every_destination_it_is_meant_for(make: Make) -> None:
    world = make(siem=EVERY, chat=CHAT)
    async with world.running():
        event_id = world.emit("i1", OPENED)
        await world.until(world.is_done, within_s=2)
    assert [sent.body["events"][0][3] for sent in world.sent] == [event_id, event_id]
    assert world.meter.results == {("siem", "delivered"): 1, ("chat", "delivered"): 1}


async def test_the_dispatcher_starts_before_the_analyst_has_written_anything(make: Make) -> None:
    world = make(siem=EVERY)
    (world.folder / "state.db").unlink()
    async with world.running():
        await world.run(5)
        world.emit("i1", OPENED)
        await world.until(world.is_done, within_s=2)
    assert world.taken("siem") == [("i1", 1)]


async def test_waking_finds_a_new_event_without_any_wait(make: Make) -> None:
    world = make(siem=EVERY)
    async with world.running() as dispatcher:
        await world.run(10)
        world.emit("i1", OPENED)
        dispatcher.wake()
        await world.until(world.is_done, within_s=0.1)
    assert world.sent[0].at_s == 10


async def test_a_batch_has_one_event_per_incident_unless_the_destination_takes_them_in_order(
    make: Make,
) -> None:
    world = make(loose=EVERY, strict=replace(EVERY, atomic=True))
    for kind in (OPENED, UPDATED, CLOSED):
        for incident in ("a", "b"):
            world.emit(incident, kind)
    async with world.running():
        await world.until(world.is_done)
    assert [sent.seqs for sent in world.of("loose")] == [[("a", n), ("b", n)] for n in (1, 2, 3)]
    assert [sent.seqs for sent in world.of("strict")] == [[(i, n) for i in "ab" for n in (1, 2, 3)]]


async def test_an_event_waits_as_its_route_says(make: Make) -> None:
    world = make(chat=CHAT)
    async with world.running():
        world.emit("i1", OPENED, wait_s=30)
        await world.until(world.is_done)
    assert world.sent[0].at_s == pytest.approx(30, abs=0.01)


async def test_a_newer_event_does_not_postpone_the_older_one_but_goes_in_its_place(make: Make) -> None:
    world = make(chat=CHAT)
    async with world.running():
        world.emit("i1", OPENED, wait_s=30)
        await world.run(20)
        world.emit("i1", UPDATED, wait_s=30)
        await world.until(world.is_done)
    assert [(sent.at_s, sent.seqs) for sent in world.sent] == [(pytest.approx(30, abs=0.01), [("i1", 2)])]
    assert world.states("chat") == {("i1", 1): "superseded", ("i1", 2): "delivered"}


async def test_a_critical_event_does_not_wait_behind_an_older_one_that_does(make: Make) -> None:
    world = make(siem=EVERY)
    async with world.running():
        world.emit("i1", OPENED, wait_s=300)
        await world.run(2)
        world.emit("i1", ESCALATED)
        await world.until(world.is_done, within_s=3)
    assert world.taken("siem") == [("i1", 1), ("i1", 2)]


async def test_what_a_destination_does_not_want_is_done_without_a_request(make: Make) -> None:
    world = make(siem=EVERY)
    world.connectors["siem"].unwanted = {UPDATED}
    for kind in (OPENED, UPDATED, CLOSED):
        world.emit("i1", kind)
    async with world.running():
        await world.until(world.is_done)
    assert world.taken("siem") == [("i1", 1), ("i1", 3)]
    assert world.shown("siem")[1]["reason"] == "not for this destination"
    assert world.meter.results[("siem", "not_wanted")] == 1


async def test_an_event_of_several_calls_finishes_them_with_what_the_first_has_left(make: Make) -> None:
    world = make(chat=CHAT)
    world.connectors["chat"].steps = {"": "thread", "thread": "reaction"}
    event_id = world.emit("i1", OPENED)
    async with world.running():
        await world.until(world.is_done)
    assert [(sent.body["step"], sent.body["memory"]) for sent in world.sent] == [
        ("", None),
        ("thread", {"last": event_id}),
        ("reaction", {"last": event_id}),
    ]


async def test_the_further_calls_of_events_that_went_together_go_one_by_one(make: Make) -> None:
    world = make(siem=EVERY)
    world.connectors["siem"].steps = {"": "thread"}
    for incident in "ab":
        world.emit(incident, OPENED)
    async with world.running():
        await world.until(world.is_done)
    assert [(sent.body["step"], len(sent.seqs)) for sent in world.sent] == [
        ("", 2),
        ("thread", 1),
        ("thread", 1),
    ]


# ---- order and repetition ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_every_event_arrives_in_order_and_under_one_id(make: Make, seed: int) -> None:
    """A destination that refuses at random, loses answers, and is restarted or killed now and then."""
    luck = random.Random(seed)
    caps = [ONE, EVERY, replace(EVERY, atomic=True)][seed % 3]
    world = make(siem=caps)
    world.takes_s["siem"] = 0.05
    # What the destination has really taken, whether its answer arrived or not.
    arrived: list[tuple[str, int, str, bytes]] = []

    def chaos(body: dict[str, Any]) -> Any:
        what = luck.random()
        if what < 0.5 or 0.7 < what < 0.75:
            arrived.extend((incident, seq, event_id, b"") for incident, seq, _, event_id in body["events"])
        if what < 0.5:
            return 200
        return (
            luck.choice([503, 429, 500, 413, silence(maybe_sent=False)])
            if what < 0.7
            else silence(maybe_sent=True)
        )

    world.answers["siem"] = chaos
    emitted: dict[tuple[str, int], str] = {}
    for round_number in range(6):
        async with world.running(ends=luck.choice(["stop", "kill"])):
            for _ in range(10):
                incident = luck.choice("abcdef")
                event_id = world.emit(incident, UPDATED)
                emitted[incident, world._seqs[incident]] = event_id
                await world.run(luck.random())
            if round_number == 5:
                world.answers["siem"] = lambda body: (
                    arrived.extend((i, s, e, b"") for i, s, _, e in body["events"]) or 200
                )
                # The last event may not even have been taken in yet.
                await world.until(
                    lambda: len(world.states("siem")) == len(emitted) and world.is_done(), within_s=7200
                )
    # 413 of a single event gives it up; everything else arrives.
    dead = {key for key, state in world.states("siem").items() if state == "dead"}
    ids = {(incident, seq): event_id for incident, seq, event_id, _ in arrived}
    assert ids.items() <= emitted.items()
    assert set(ids) | dead == set(emitted)
    firsts = list(dict.fromkeys((incident, seq) for incident, seq, _, _ in arrived))
    assert in_order([each for each in firsts if each not in dead])


async def test_after_a_lost_answer_the_same_bytes_go_again_and_the_repeat_is_flagged(make: Make) -> None:
    world = make(siem=EVERY)
    answers = iter([silence(maybe_sent=True), silence(maybe_sent=True)])
    world.answers["siem"] = lambda body: next(answers, 200) if body["events"][0][0] == "a" else 200
    world.emit("a", OPENED)
    world.emit("b", OPENED)
    async with world.running():
        await world.until(lambda: len(world.sent) > 0)
        world.emit("c", OPENED)  # must not join the batch that is repeated
        await world.until(world.is_done)
    repeats = [sent.raw for sent in world.sent if ("a", 1) in sent.seqs]
    assert len(repeats) == 3
    assert len(set(repeats)) == 1
    assert {each["incident"]: each["maybe_duplicate"] for each in world.shown("siem")} == {
        "a": True, "b": True, "c": False,
    }  # fmt: skip


async def test_what_was_under_way_when_the_process_died_goes_again_with_the_same_bytes(make: Make) -> None:
    world = make(siem=EVERY)
    world.takes_s["siem"] = 10
    world.emit("i1", OPENED)
    async with world.running(ends="kill"):
        await world.run(3)
        frozen = world.store._ask("SELECT body FROM request", [])
    world.takes_s["siem"] = 0
    async with world.running():
        await world.until(world.is_done)
    assert len(frozen) == 1
    assert world.sent[0].raw in frozen[0][0]
    assert world.shown("siem")[0]["maybe_duplicate"]
    assert world.shown("siem")[0]["attempts"] == 2


async def test_a_clean_stop_lets_what_is_under_way_finish_and_starts_nothing_more(make: Make) -> None:
    world = make(siem=ONE)
    world.takes_s["siem"] = 5
    world.emit("a", OPENED)
    world.emit("b", OPENED)
    async with world.running():
        await world.run(1)
    assert world.taken("siem") == [("a", 1)]
    assert world.states("siem") == {("a", 1): "delivered", ("b", 1): "waiting"}
    assert world.seconds < 10


async def test_a_stop_ends_a_backlog_that_flows(make: Make) -> None:
    world = make(siem=ONE)
    for number in range(100):
        world.emit(f"i{number}", OPENED)

    def stopping(_: Any) -> int:
        if len(world.sent) == 5:
            world.dispatcher.stop()
        return 200

    world.answers["siem"] = stopping
    async with world.running():
        await world.until(lambda: len(world.sent) > 5)
    assert len(world.sent) < 30


async def test_a_stop_does_not_wait_for_a_destination_that_hangs(make: Make) -> None:
    world = make(siem=ONE)
    world.takes_s["siem"] = 3600
    world.emit("a", OPENED)
    async with world.running():
        await world.run(1)
    assert world.seconds <= 10
    world.takes_s["siem"] = 0
    async with world.running():
        await world.until(world.is_done)
    assert world.taken("siem") == [("a", 1)]


async def test_a_store_that_cannot_be_written_is_waited_out_from_the_first_moment_on(make: Make) -> None:
    world = make(siem=ONE)
    for incident in "abc":
        world.emit(incident, OPENED)
    # Nothing can be written: not what was left under way, not what is new, and later no verdict.
    world.deny_writes(True)
    async with world.running():
        await world.run(20)
        assert world.sent == []
        world.deny_writes(False)
        await world.until(world.is_done)
    assert sorted(world.taken("siem")) == [("a", 1), ("b", 1), ("c", 1)]


async def test_an_answer_that_cannot_be_committed_is_kept_until_it_can_and_nothing_repeats(
    make: Make,
) -> None:
    world = make(siem=ONE)
    world.takes_s["siem"] = 5
    world.emit("i1", OPENED)
    async with world.running():
        await world.run(3)
        world.deny_writes(True)
        await world.run(60)
        assert world.states("siem") == {("i1", 1): "waiting"}
        world.deny_writes(False)
        await world.until(world.is_done)
    assert world.taken("siem") == [("i1", 1)]


async def test_an_outbox_that_was_begun_anew_is_read_from_its_beginning(make: Make) -> None:
    world = make(siem=ONE)
    for incident in "abc":
        world.emit(incident, OPENED)
    async with world.running():
        await world.until(world.is_done)
    (world.folder / "state.db").unlink()
    world.emit("d", OPENED)
    async with world.running():
        await world.until(lambda: ("d", 1) in world.taken("siem"))
    assert sorted(world.taken("siem")) == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]


async def test_a_clock_that_was_ahead_and_is_set_back_holds_nothing_up(make: Make) -> None:
    """The dispatcher ends, and the next one moves along what waits: by a day here, not for one."""
    world = make(siem=ONE, chat=CHAT)
    world.answers["siem"] = lambda _: 503
    world.emit("a", OPENED, "siem")
    world.emit("b", OPENED, "chat", wait_s=30.0)
    async with world.running():
        await world.run(10)
        world.set_back(86_400.0)
        await world.run(2)
        assert world.dispatcher.has_ended
    del world.answers["siem"]
    began_s = world.seconds
    async with world.running():
        await world.until(world.is_done, within_s=600.0)
    assert world.seconds - began_s < 60.0
    assert (world.taken("siem"), world.taken("chat")) == ([("a", 1)], [("b", 1)])


async def test_a_clock_that_is_set_back_while_nothing_runs_holds_nothing_up(make: Make) -> None:
    world = make(siem=ONE)
    world.answers["siem"] = lambda _: 503
    world.emit("a", OPENED)
    async with world.running():
        await world.run(10)
    world.set_back(86_400.0)
    del world.answers["siem"]
    for _ in range(2):  # the second time there is nothing left to move
        async with world.running():
            await world.until(world.is_done, within_s=60.0)


# ---- newest only -------------------------------------------------------------------------------------------


async def test_a_page_that_opened_and_closed_before_it_went_is_not_told_chat_hears_once_the_siem_all(
    make: Make,
) -> None:
    world = make(pager=PAGER, chat=CHAT, siem=ONE)
    world.connectors["pager"].unwanted = {CLOSED}  # as PagerDuty has it: there is nothing to resolve
    for kind in (OPENED, UPDATED, CLOSED):
        world.emit("i1", kind, "pager", "chat", wait_s=30)
        world.emit("i2", kind, "siem")
    async with world.running():
        await world.until(world.is_done)
    assert world.of("pager") == []
    assert world.taken("chat") == [("i1", 3)]
    assert world.taken("siem") == [("i2", 1), ("i2", 2), ("i2", 3)]


async def test_a_page_whose_answer_was_lost_is_resolved_and_not_triggered_again_after_its_close(
    make: Make,
) -> None:
    world = make(pager=PAGER)
    answers = iter([answer(500), silence(maybe_sent=True)])
    world.answers["pager"] = lambda _: next(answers, 200)
    world.emit("i1", OPENED)
    async with world.running():
        await world.until(lambda: len(world.sent) == 2)
        world.emit("i1", CLOSED)
        await world.until(world.is_done)
    assert world.taken("pager") == [("i1", 2)]
    assert world.states("pager") == {("i1", 1): "superseded", ("i1", 2): "delivered"}


async def test_after_an_outage_only_the_newest_state_goes(make: Make) -> None:
    world = make(HOURS, chat=CHAT)
    world.answers["chat"] = lambda _: silence(maybe_sent=False) if world.seconds < 3600 else 200
    async with world.running():
        world.emit("i1", OPENED)
        for _ in range(20):
            await world.run(100)
            world.emit("i1", UPDATED)
        await world.until(world.is_done)
    assert world.taken("chat") == [("i1", 21)]


async def test_a_message_too_old_to_matter_is_given_up_where_a_horizon_is_set(make: Make) -> None:
    settings = replace(HOURS, policies={"chat": Policy(retry_horizon_s=600)})
    world = make(settings, chat=CHAT)
    world.answers["chat"] = lambda _: 401 if world.seconds < 3600 else 200
    world.emit("old", OPENED)
    async with world.running():
        await world.run(3500)
        world.emit("new", OPENED)
        await world.until(lambda: world.states("chat").get(("new", 1)) == "delivered")
    assert world.states("chat") == {("old", 1): "dead", ("new", 1): "delivered"}


@pytest.fixture
def pager(make: Make) -> World:
    """A world with PagerDuty's own connector."""
    world = make()
    settings = PagerDutySettings(
        name="pager", routing_key=Secret("0123456789abcdef" * 2), url="http://pager/enqueue"
    )
    world.foreign["pager"] = PagerDuty(settings)
    world.answers["pager"] = lambda _: ENQUEUED
    return world


def pages(world: World) -> list[tuple[str, str]]:
    """Return what PagerDuty was told: the action and the number of the page."""
    return [(each.body["event_action"], each.body["dedup_key"].rpartition("/")[2]) for each in world.sent]


async def test_every_page_of_an_incident_is_resolved_when_it_closes(pager: World) -> None:
    async with pager.running():
        for kind, changes in (
            (OPENED, {}),
            (UPDATED, {}),
            (ESCALATED, {"escalations": 1}),
            (CLOSED, {"escalations": 1, "state": IncidentState.CLOSED}),
        ):
            pager.emit("i1", kind, **changes)
            await pager.run(2)
        await pager.until(pager.is_done)
    assert pages(pager) == [("trigger", "e0"), ("trigger", "e1"), ("resolve", "e1"), ("resolve", "e0")]


async def test_pagerduty_is_not_paged_for_what_was_over_before_the_wait_was(pager: World) -> None:
    async with pager.running():
        pager.emit("i1", OPENED, wait_s=30)
        await pager.run(20)
        pager.emit("i1", CLOSED, wait_s=10, state=IncidentState.CLOSED)
        await pager.until(pager.is_done)
        await pager.run(60)
    assert pages(pager) == []


async def test_a_trigger_that_may_have_arrived_is_resolved_although_nothing_is_remembered(
    pager: World,
) -> None:
    lost = iter([silence(maybe_sent=True)])
    pager.answers["pager"] = lambda _: next(lost, ENQUEUED)
    async with pager.running():
        pager.emit("i1", OPENED)
        await pager.until(lambda: len(pager.sent) == 1)
        pager.emit("i1", CLOSED, state=IncidentState.CLOSED)
        await pager.until(pager.is_done)
    assert pages(pager)[0] == ("trigger", "e0")
    assert pages(pager)[-1] == ("resolve", "e0")


@pytest.mark.parametrize("lost", ["answer", "process"])
async def test_an_escalation_whose_answer_was_lost_is_resolved_with_the_rest(pager: World, lost: str) -> None:
    async with pager.running(ends="kill" if lost == "process" else "stop"):
        pager.emit("i1", OPENED)
        await pager.until(pager.is_done)
        if lost == "process":
            pager.takes_s["pager"] = 20
        pager.answers["pager"] = lambda _: silence(maybe_sent=True)
        pager.emit("i1", ESCALATED, escalations=1)
        await pager.run(1)
    pager.takes_s = {}
    pager.answers["pager"] = lambda _: ENQUEUED
    pager.emit("i1", CLOSED, escalations=1, state=IncidentState.CLOSED)
    async with pager.running():
        await pager.until(lambda: pager.states("pager").get(("i1", 3)) == "delivered")
    assert pages(pager)[-2:] == [("resolve", "e1"), ("resolve", "e0")]


async def test_a_page_that_was_given_up_before_its_incident_closed_pages_nobody_when_it_is_retried(
    pager: World,
) -> None:
    refused = HttpResponse(status=400, headers={}, body=b'{"status":"invalid event","errors":["summary"]}')
    pager.answers["pager"] = lambda _: refused
    async with pager.running():
        pager.emit("i1", OPENED)
        await pager.until(lambda: pager.states("pager").get(("i1", 1)) == "dead")
        pager.emit("i1", CLOSED, state=IncidentState.CLOSED)
        await pager.until(pager.is_done)
        pager.answers["pager"] = lambda _: ENQUEUED
        assert await pager.store.retry("default", str(pager.shown("pager")[0]["id"]))
        await pager.until(pager.is_done)
    assert len(pager.sent) == 1
    assert pager.states("pager") == {("i1", 1): "superseded", ("i1", 2): "delivered"}


async def test_after_a_restored_state_pages_still_go_and_are_resolved(pager: World) -> None:
    """The new state numbers from 1 again; what was told under the old numbers must not swallow it."""
    async with pager.running():
        for kind in (OPENED, UPDATED, UPDATED, UPDATED):
            pager.emit("i1", kind)
            await pager.run(2)
    (pager.folder / "state.db").unlink()
    pager._seqs.clear()
    async with pager.running():
        pager.emit("i1", UPDATED)
        pager.emit("i1", ESCALATED, escalations=1)
        await pager.run(2)
        pager.emit("i1", CLOSED, escalations=1, state=IncidentState.CLOSED)
        await pager.until(lambda: ("resolve", "e0") in pages(pager), within_s=5)
    assert pages(pager) == [("trigger", "e0"), ("trigger", "e1"), ("resolve", "e1"), ("resolve", "e0")]


async def test_a_state_that_was_put_back_from_a_copy_is_read_from_its_beginning_at_once(make: Make) -> None:
    world = make(siem=ONE)
    state, copy = world.folder / "state.db", world.folder / "copy.db"
    async with world.running():
        world.emit("i1", OPENED)
        copy.write_bytes(state.read_bytes())
        world.emit("i2", OPENED)
        world.emit("i3", OPENED)
        await world.until(world.is_done)
        state.unlink()
        copy.rename(state)
        await world.run(5)
        world.emit("i4", OPENED)
        await world.run(5)
    assert world.taken("siem") == [("i1", 1), ("i2", 1), ("i3", 1), ("i4", 1)]


async def test_what_waits_of_a_lost_state_does_not_outlive_the_events_of_the_new_one(pager: World) -> None:
    """An old request that goes at last must not make the new state's events look told, its close among them."""
    pager.answers["pager"] = lambda _: answer(503)
    async with pager.running():
        for kind in (OPENED, UPDATED, UPDATED, UPDATED):
            pager.emit("i1", kind)
        await pager.run(60)
        (pager.folder / "state.db").unlink()
        pager._seqs.clear()
        pager.emit("i1", UPDATED)
        pager.emit("i1", ESCALATED, escalations=1)
        await pager.run(5)
        pager.answers["pager"] = lambda _: ENQUEUED
        await pager.run(60)
        pager.emit("i1", CLOSED, escalations=1, state=IncidentState.CLOSED)
        await pager.run(60)
    taken = [page for page, sent in zip(pages(pager), pager.sent, strict=True) if sent.taken]
    assert ("trigger", "e1") in taken
    assert {page for action, page in taken if action == "trigger"} <= {
        page for action, page in taken if action == "resolve"
    }
    assert all(each["seq"] > 0 for each in pager.shown("pager"))


async def test_to_make_room_a_close_is_not_ended_whose_page_is_under_way(pager: World) -> None:
    pager.takes_s["pager"] = 20
    async with pager.running():
        small_disk(pager, 2)
        pager.emit("i1", OPENED)
        await pager.run(1)
        pager.emit("i1", ESCALATED, escalations=1)
        pager.emit("i1", CLOSED, escalations=1, state=IncidentState.CLOSED)
        await pager.until(pager.is_done)
    assert pages(pager)[0] == ("trigger", "e0")
    assert pages(pager)[-1] == ("resolve", "e0")


@pytest.mark.parametrize("is_running", [True, False], ids=["while it runs", "while it does not"])
async def test_the_outbox_of_a_state_that_was_begun_anew_is_read_from_its_beginning(
    make: Make, *, is_running: bool
) -> None:
    """Its numbers may have grown past those that were read in the old one; nothing below them is passed over."""
    world = make(siem=ONE)

    def begin_anew() -> None:
        (world.folder / "state.db").unlink()
        for number in range(5):
            world.emit(f"new{number}", OPENED)

    async with world.running():
        world.emit("old0", OPENED)
        world.emit("old1", OPENED)
        await world.until(world.is_done)
        if is_running:
            begin_anew()
            await world.until(lambda: len(world.sent) == 7)
    if not is_running:
        begin_anew()
        async with world.running():
            await world.until(lambda: len(world.sent) == 7)
    assert {incident for incident, _ in world.taken("siem")} == {
        "old0", "old1", *(f"new{number}" for number in range(5)),
    }  # fmt: skip


async def test_a_state_that_is_no_longer_stored_replaces_nothing(make: Make) -> None:
    world = make(chat=CHAT)
    world.emit("i1", OPENED, wait_s=5)
    world.forget(world.emit("i1", UPDATED, wait_s=5))
    async with world.running():
        await world.until(world.is_done)
    assert world.states("chat") == {("i1", 1): "delivered", ("i1", 2): "dead"}
    assert "retention.incidents" in world.shown("chat")[1]["reason"]


# ---- acknowledgements --------------------------------------------------------------------------------------


async def test_an_acknowledgement_is_asked_for_until_it_comes_and_holds_the_line(make: Make) -> None:
    world = make(siem=ONE)
    world.answers["siem"] = lambda body: (
        (200 if world.seconds > 30 else answer(202, token="17")) if body["path"] else answer(202, token="17")
    )
    world.emit("i1", OPENED)
    world.emit("i1", CLOSED)
    async with world.running():
        await world.run(20)
        assert {sent.path for sent in world.sent[1:]} == {"ask?17"}
        assert world.states("siem") == {("i1", 1): "pending", ("i1", 2): "waiting"}
        await world.until(world.is_done, within_s=120)
    assert [sent.seqs for sent in world.sent if not sent.path] == [[("i1", 1)], [("i1", 2)]]


async def test_an_acknowledgement_that_never_comes_sends_the_same_bytes_again(make: Make) -> None:
    settings = DispatchSettings(policies={"siem": Policy(pending_s=60)})
    world = make(settings, siem=EVERY)
    posts = iter([answer(202, token="17")])
    world.answers["siem"] = lambda body: answer(202, token="17") if body["path"] else next(posts, 200)
    world.emit("i1", OPENED)
    async with world.running():
        await world.until(world.is_done, within_s=200)
    sent = [each.raw for each in world.sent if not each.path]
    assert len(sent) == 2
    assert len(set(sent)) == 1
    assert world.shown("siem")[0]["maybe_duplicate"]


# ---- keeping house -----------------------------------------------------------------------------------------


async def test_old_deliveries_and_too_many_dead_letters_make_room(make: Make) -> None:
    settings = replace(HOURS, retention=Retention(ended_s=3600, max_dead=2))
    world = make(settings, siem=ONE)
    world.answers["siem"] = lambda body: 400 if body["events"][0][0].startswith("bad") else 200
    for incident in ("a", "bad1", "bad2", "bad3"):
        world.emit(incident, OPENED)
    async with world.running():
        await world.run(3 * 3600)
    assert set(world.states("siem")) == {("bad2", 1), ("bad3", 1)}
    assert world.meter.backlogs["siem"].lost == 1


def small_disk(world: World, events: int) -> None:
    """Leave room for so many waiting events of one destination."""

    async def free_bytes() -> int:
        waiting = sum(each.waiting for each in (await world.store.backlog()).values())
        return (4 * events - waiting) * 1024

    world.store.free_bytes = free_bytes  # type: ignore[method-assign]


async def test_a_backlog_that_would_take_the_disk_gives_up_its_oldest_and_says_so(make: Make) -> None:
    world = make(siem=ONE)
    world.answers["siem"] = lambda _: 503 if world.seconds < 300 else 200
    small_disk(world, 20)
    for number in range(50):
        world.emit(f"i{number}", OPENED)
        world.now += timedelta(seconds=0.1)
    async with world.running():
        await world.run(60)
        waiting = {key for key, state in world.states("siem").items() if state == "waiting"}
        assert len(waiting) == 20
        # The oldest are gone, but for those that were tried and may have arrived.
        assert {(f"i{number}", 1) for number in range(38, 50)} <= waiting
        assert ("dead_letters", "siem") in {(kind, name) for _, name, kind, _ in world.troubles}
        assert world.meter.results["siem", "dead"] == 30
        await world.until(world.is_done, within_s=600)
    assert len(set(world.taken("siem"))) == 20
    reasons = {each["reason"] for each in world.shown("siem") if each["state"] == "dead"}
    assert reasons == {"given up to make room: more than 20 events waited"}


async def test_where_the_newest_state_goes_a_backlog_makes_room_without_loss(make: Make) -> None:
    world = make(chat=CHAT)
    world.answers["chat"] = lambda _: 503 if world.seconds < 300 else 200
    small_disk(world, 10)
    async with world.running():
        for _ in range(5):
            for number in range(8):
                world.emit(f"i{number}", UPDATED)
            await world.run(2)
        await world.run(30)
        assert world.store.counts("default") | {"dead": 0} == world.store.counts("default")
        assert world.store.counts("default")["waiting"] <= 10
        await world.until(world.is_done, within_s=600)
    newest = {(f"i{number}", 5) for number in range(8)}
    assert newest <= set(world.taken("chat"))


async def test_an_attempt_that_ends_in_a_bug_of_ours_is_made_again_and_holds_nothing(make: Make) -> None:
    world = make(siem=ONE)
    world.emit("i1", OPENED)
    world.emit("i1", CLOSED)
    async with world.running() as dispatcher:
        standing = dispatcher.workers["siem"]._standing
        learn, broken = standing.learn, iter([True])

        def learning(*given: Any, **named: Any) -> bool:
            if next(broken, False):
                raise KeyError("a bug")
            return learn(*given, **named)

        standing.learn = learning  # type: ignore[method-assign]
        await world.until(world.is_done, within_s=90)
    assert world.taken("siem") == [("i1", 1), ("i1", 1), ("i1", 2)]
    assert world.shown("siem")[0]["maybe_duplicate"]


async def test_events_for_a_destination_that_is_not_configured_wait_for_it_and_are_told_of(
    make: Make,
) -> None:
    world = make(siem=ONE)
    world.emit("i1", OPENED, "gone")
    async with world.running():
        await world.run(15)
        assert world.states("gone") == {("i1", 1): "waiting"}
        assert world.meter.backlogs["gone"].waiting == 1
        [(_, name, kind, reason)] = world.troubles
        assert (name, kind) == ("gone", "unconfigured")
        assert "1 events wait" in reason
        assert await world.store.drop("default", str(world.shown("gone")[0]["id"]))
        await world.run(20)
    assert [reason for *_, reason in world.troubles[1:]] == [None]


async def test_with_a_real_clock_and_a_real_thread_it_works_as_well(make: Make) -> None:
    world = make(siem=EVERY)
    world.emit("i1", OPENED)
    arrived = asyncio.Event()
    world.clock = world.store._clock = lambda: datetime.now(UTC)  # type: ignore[method-assign,assignment]
    real = world.connectors["siem"].seal

    def seal(request: Request, event_ids: Sequence[str], now: datetime) -> Request:
        arrived.set()
        return replace(real(request, event_ids, now), headers={"sealed": world.now.isoformat()})

    world.connectors["siem"].seal = seal  # type: ignore[method-assign]
    dispatcher = Dispatcher(
        world.store,
        OutboxReader(world.folder / "state.db"),
        world.connectors,
        {Http: world},
        clock=world.clock,
        jitter=lambda: 0.0,
        on_trouble=world._trouble,
    )
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(dispatcher.run())
        await arrived.wait()
        dispatcher.stop()
    assert world.states("siem") == {("i1", 1): "delivered"}
