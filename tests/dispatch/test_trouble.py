"""The dispatcher against destinations that refuse, fail, vanish and come back; time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest
from dispatching import CHAT, EVERY, ONE, PAGER, World, answer, silence
from msgspec.structs import replace

import connectors
from bridge.delivery import Policy
from bridge.dispatch import DispatchSettings, preparing, sending
from bridge.model import EventKind, Reject, Retry, Verdict
from bridge.ports import Caps, HttpResponse, Rendered, Request, Response, Unreached
from bridge.storage.deliveries import OutboxReader
from connectors import load

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


# ---- waiting -----------------------------------------------------------------------------------------------


async def test_a_retry_after_is_honoured_by_everything_that_would_go_there(make: Make) -> None:
    world = make(siem=ONE)
    answers = iter([answer(429, retry_after="40")])
    world.answers["siem"] = lambda _: next(answers, 200)
    world.emit("a", OPENED)
    async with world.running():
        await world.until(lambda: len(world.sent) == 1)
        world.emit("b", OPENED)
        await world.until(world.is_done)
    assert all(sent.at_s >= world.sent[0].at_s + 40 for sent in world.sent[1:])
    assert sorted(world.taken("siem")) == [("a", 1), ("b", 1)]


async def test_a_retry_after_of_one_event_does_not_hold_up_the_others(make: Make) -> None:
    world = make(HOURS, siem=ONE)
    world.answers["siem"] = lambda body: (
        answer(500, retry_after="600") if body["events"][0][0] == "a" and world.seconds < 60 else 200
    )
    for incident in "abc":
        world.emit(incident, OPENED)
    async with world.running():
        await world.until(lambda: {("b", 1), ("c", 1)} <= set(world.taken("siem")), within_s=5)
        await world.until(world.is_done)
    assert world.sent[-1].at_s >= 600


async def test_an_event_that_fails_again_and_again_does_not_hold_up_new_ones_and_is_told_of(
    make: Make,
) -> None:
    world = make(HOURS, siem=ONE)
    world.answers["siem"] = lambda body: 500 if body["events"][0][0] == "poison" else 200
    world.emit("poison", OPENED)
    async with world.running() as dispatcher:
        for number in range(3):
            await world.run(3000)
            failures = len(world.sent)
            await world.until(lambda n=failures: len(world.sent) > n)  # it has just failed once more
            world.emit(f"i{number}", OPENED)
            dispatcher.wake()
            await world.until(lambda n=number: (f"i{n}", 1) in world.taken("siem"), within_s=1)
        # The incident goes on behind it, and nobody hears; so that is said, with what to do.
        # (As long as it is alone, it is the destination that takes nothing.)
        assert list(dict.fromkeys(kind for _, _, kind, _ in world.troubles)) == ["unreachable", "stuck"]
        *_, reason = world.troubles[-1]
        assert "incident poison" in reason
        assert "HTTP 500" in reason
        assert await world.store.drop("default", str(world.shown("siem")[0]["id"]))
        await world.run(60)
    assert world.troubles[-1][2:] == ("stuck", None)


async def test_an_event_that_breaks_every_connection_does_not_open_the_breaker_for_the_others(
    make: Make,
) -> None:
    world = make(HOURS, siem=ONE)
    reset = Unreached(reason="reset", maybe_sent=True, kind="reset")
    world.answers["siem"] = lambda body: reset if body["events"][0][0] == "poison" else 200
    world.emit("poison", OPENED)
    async with world.running() as dispatcher:
        await world.run(30)
        late = []
        for number in range(20):
            emitted_s = world.seconds
            world.emit(f"i{number}", OPENED)
            dispatcher.wake()
            await world.until(lambda n=number: (f"i{n}", 1) in world.taken("siem"), within_s=40)
            late.append(world.seconds - emitted_s)
            await world.run(300)
    # The first finds the breaker open: until then nobody could know whose fault it was.
    assert max(late[1:]) < 1


@pytest.mark.parametrize("status", [500, 502, 504, 503, "reset"])
async def test_a_destination_that_takes_nothing_is_told_of_whatever_it_answers(
    make: Make, status: int | str
) -> None:
    """Four incidents in 40 minutes are too few in a row for any breaker."""
    world = make(HOURS, pager=PAGER)
    reset = Unreached(reason="reset", maybe_sent=True, kind="reset")
    world.answers["pager"] = lambda _: 200 if world.seconds > 3000 else reset if status == "reset" else status
    async with world.running():
        for number in range(4):
            world.emit(f"i{number}", OPENED)
            await world.run(600)
        await world.until(world.is_done)
        await world.run(40)
    [(at_s, _, kind, reason), (over_s, *_, over)] = world.troubles
    assert (kind, 120 <= at_s < 300) == ("unreachable", True)
    assert (over, 3000 < over_s < 3400) == (None, True)
    assert str(status) in reason


@pytest.mark.parametrize("status", [500, 503])
async def test_a_destination_that_fails_for_all_gets_one_request_at_a_time(make: Make, status: int) -> None:
    """Fifty critical incidents, each tried every half minute, would be kicking somebody who is down."""
    world = make(HOURS, pager=PAGER)
    world.answers["pager"] = lambda _: status
    for number in range(50):
        world.emit(f"i{number}", OPENED, severity="critical")
    async with world.running():
        await world.run(600)
        soon = len(world.sent)
        await world.run(3000)
    assert (len(world.sent) - soon) < 3000 / 10


@pytest.mark.parametrize("status", [500, 502, 503, 504, "reset", "connect"])
async def test_after_an_outage_everything_goes_within_half_a_minute_or_so(
    make: Make, status: int | str
) -> None:
    """The longest waits belong to what failed last; what is new must not find the breaker closed either."""
    faults = {
        "reset": Unreached(reason="reset", maybe_sent=True, kind="reset"),
        "connect": silence(maybe_sent=False),
    }
    world = make(pager=PAGER)
    world.settings = DispatchSettings(policies={"pager": Policy(backoff_cap_s=30)})
    world.answers["pager"] = lambda _: 200 if world.seconds >= 900 else faults.get(str(status), status)
    async with world.running():
        for number in range(5):
            world.emit(f"i{number}", OPENED)
        await world.run(905)
        world.emit("new", OPENED)
        await world.until(lambda: len(set(world.taken("pager"))) == 6, within_s=35)


async def test_a_wait_that_was_asked_for_an_event_is_kept_when_its_destination_recovers(make: Make) -> None:
    world = make(HOURS, siem=ONE)
    world.answers["siem"] = lambda body: (
        200 if world.seconds >= 100
        else answer(500, retry_after="2000") if body["events"][0][0] == "late" else 500
    )  # fmt: skip
    for incident in ("late", "b", "c"):
        world.emit(incident, OPENED)
    async with world.running():
        await world.until(lambda: {("b", 1), ("c", 1)} <= set(world.taken("siem")), within_s=500)
        await world.until(world.is_done)
    assert world.sent[-1].at_s >= 2000


async def test_a_dead_destination_is_tried_now_and_then_told_of_and_caught_up_with_at_once(
    make: Make,
) -> None:
    world = make(HOURS, siem=ONE)
    world.answers["siem"] = lambda _: silence(maybe_sent=False) if world.seconds < 7200 else 200
    for number in range(50):
        world.emit(f"i{number}", OPENED)
    async with world.running():
        await world.run(7190)
        tries = len(world.sent)
        assert tries < 400  # with a pause of at most half a minute
        # Within the longest pause it is found to be back; then nothing waits for its own turn.
        await world.until(lambda: bool(world.taken("siem")), within_s=400)
        back_at = world.seconds
        await world.until(world.is_done)
        await world.run(40)
    delivered = [each.at_s for each in world.of("siem") if each.taken]
    assert delivered[-1] - back_at < 25
    assert {kind for _, _, kind, _ in world.troubles} == {"unreachable"}
    assert world.troubles[0][0] < 600
    assert world.troubles[-1][3] is None


async def test_one_dead_destination_does_not_slow_another(make: Make) -> None:
    world = make(dead=ONE, slow=ONE, well=ONE)
    world.answers["dead"] = lambda _: silence(maybe_sent=True)
    world.takes_s = {"dead": 30, "slow": 25}
    for number in range(40):
        world.emit(f"i{number}", OPENED)
    async with world.running():
        await world.until(lambda: len(world.taken("well")) == 40, within_s=2)
    assert len(world.taken("well")) == 40


async def test_a_destination_that_is_quick_gets_more_at_once_but_never_more_than_sixteen(make: Make) -> None:
    world = make(siem=ONE)
    world.takes_s["siem"] = 0.1
    for number in range(200):
        world.emit(f"i{number}", OPENED)
    async with world.running():
        await world.until(world.is_done)
    assert 8 < world.most_under_way <= 16


async def test_a_critical_incident_does_not_wait_behind_a_crowd_and_the_crowd_still_goes(make: Make) -> None:
    """A chat that takes one message a second, and 200 warnings before the one that matters."""
    world = make(chat=CHAT)
    taken_at = [-1.0]

    def one_a_second(_: Any) -> Any:
        if world.seconds - taken_at[0] < 1:
            return answer(429, retry_after="1")
        taken_at[0] = world.seconds
        return 200

    world.answers["chat"] = one_a_second
    world.takes_s["chat"] = 0.1
    for number in range(200):
        world.emit(f"w{number}", OPENED, severity="warning")
    async with world.running():
        await world.run(20)
        before = len(world.taken("chat"))
        for number in range(10):
            world.emit(f"crit{number}", OPENED, severity="critical")
        critical = {(f"crit{number}", 1) for number in range(10)}
        await world.until(lambda: bool(critical & set(world.taken("chat"))), within_s=4)
        await world.until(lambda: critical <= set(world.taken("chat")), within_s=25)
        between = world.taken("chat")[before:]
        assert 3 <= len(set(between) - critical) <= 6  # one in four is a warning all the while


async def test_a_warning_that_fails_does_not_hold_up_its_own_escalation(make: Make) -> None:
    world = make(HOURS, chat=CHAT)
    world.answers["chat"] = lambda body: 500 if body["events"][0][:2] == ["i1", 1] else 200
    world.emit("i1", OPENED, severity="warning")
    async with world.running() as dispatcher:
        await world.until(lambda: world.shown("chat")[0]["attempts"] > 8)
        world.emit("i1", ESCALATED, severity="critical")
        dispatcher.wake()
        await world.until(lambda: ("i1", 2) in world.taken("chat"), within_s=40)


async def test_a_backlog_is_read_no_further_than_one_round_can_send(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In events, and in bytes: decoding all of it kept everybody waiting and took hundreds of megabytes."""
    world = make(file=replace(EVERY, atomic=True, max_events=50))
    for number in range(40):
        for _ in range(10):
            world.emit(f"i{number}", UPDATED)
    with closing(OutboxReader(world.folder / "state.db")) as outbox:
        await world.store.rewind(found.outbox if (found := outbox.end()) else "")
        await world.store.take_in(outbox.read(0, 1000))
    reads: list[str] = []
    event_of = OutboxReader.event

    def counting(outbox: OutboxReader, event_id: str) -> bytes | None:
        reads.append(event_id)
        return event_of(outbox, event_id)

    monkeypatch.setattr(OutboxReader, "event", counting)
    world.answers["file"] = lambda _: silence(maybe_sent=True)
    async with world.running(ends="kill"):
        await world.until(lambda: len(world.of("file")) > 0)
    assert {len(sent.seqs) for sent in world.of("file")} == {50}
    assert len(reads) == 50 * len(world.of("file"))  # nothing is read but what goes
    frozen = {sent.raw for sent in world.of("file")}
    monkeypatch.setattr(preparing, "ROUND_BYTES", 3 * 1000)
    world.answers["file"] = lambda _: 200
    async with world.running():
        await world.until(world.is_done)
    assert len(set(world.taken("file"))) == 400
    assert max(len(sent.seqs) for sent in world.of("file") if sent.raw not in frozen) <= 4


# ---- size, refusal, giving up ------------------------------------------------------------------------------


async def test_a_batch_that_is_too_large_is_split_down_to_the_event_that_is(make: Make) -> None:
    world = make(siem=EVERY)
    world.answers["siem"] = lambda body: 413 if any(e[0] == "huge" for e in body["events"]) else 200
    for incident in ("a", "b", "c", "huge", "d", "e", "f"):
        world.emit(incident, OPENED)
    async with world.running():
        await world.until(world.is_done)
        await world.run(12)
    assert sorted(world.taken("siem")) == [(i, 1) for i in "abcdef"]
    (dead,) = [each for each in world.shown("siem") if each["state"] == "dead"]
    assert (dead["incident"], dead["reason"]) == ("huge", "HTTP 413")
    assert [kind for _, _, kind, _ in world.troubles] == ["dead_letters"]


async def test_an_event_that_is_too_large_by_itself_goes_again_at_half_the_size(make: Make) -> None:
    world = make(siem=replace(EVERY, max_bytes=100_000))
    world.connectors["siem"].fills = True
    sizes: list[int] = []

    def limited(_: Any) -> int:
        return 413 if sizes[-1] > 30_000 else 200

    seal = world.connectors["siem"].seal

    def measuring(request: Any, event_ids: Sequence[str], now: datetime) -> Request:
        sizes.append(len(request.body))
        return seal(request, event_ids, now)

    world.connectors["siem"].seal = measuring  # type: ignore[method-assign]
    world.answers["siem"] = limited
    for incident in "ab":
        world.emit(incident, OPENED)
    async with world.running():
        await world.until(world.is_done)
        assert set(world.states("siem").values()) == {"delivered"}
        assert sizes[-1] == 25_000
        world.answers["siem"] = lambda _: 413
        world.emit("c", OPENED)
        await world.until(lambda: world.states("siem").get(("c", 1)) == "dead")
    assert min(sizes) == 100_000 // 32  # half of that would promise nothing any more


async def test_one_bad_event_does_not_take_its_batch_with_it(make: Make) -> None:
    world = make(siem=EVERY)
    world.answers["siem"] = lambda body: 400 if any(e[0] == "bad" for e in body["events"]) else 200
    for incident in ("a", "bad", "c"):
        world.emit(incident, OPENED)
    async with world.running():
        await world.until(world.is_done)
    assert world.states("siem") == {("a", 1): "delivered", ("bad", 1): "dead", ("c", 1): "delivered"}


async def test_a_dead_letter_does_not_hold_its_line_and_can_be_sent_off_again(make: Make) -> None:
    world = make(siem=ONE)
    world.answers["siem"] = lambda body: 400 if world.seconds < 100 and body["events"][0][1] == 1 else 200
    world.emit("i1", OPENED)
    world.emit("i1", CLOSED)
    async with world.running():
        await world.until(world.is_done)
        assert world.states("siem") == {("i1", 1): "dead", ("i1", 2): "delivered"}
        await world.run(100)
        number = world.shown("siem")[0]["id"]
        assert await world.store.retry("default", str(number))
        assert not await world.store.retry("default", str(number))
        assert not await world.store.retry("another tenant", str(number))
        await world.until(world.is_done)
        await world.run(15)
    assert world.taken("siem") == [("i1", 2), ("i1", 1)]
    assert [(kind, reason is None) for _, _, kind, reason in world.troubles] == [
        ("dead_letters", False), ("dead_letters", True),
    ]  # fmt: skip


async def test_a_page_that_was_given_up_is_not_sent_after_its_resolve_even_by_hand(make: Make) -> None:
    world = make(pager=PAGER)
    world.emit("i1", OPENED)
    async with world.running():
        await world.until(world.is_done)
        world.answers["pager"] = lambda body: 400 if body["events"][0][1] == 2 else 200
        world.emit("i1", ESCALATED)
        await world.until(lambda: world.states("pager").get(("i1", 2)) == "dead")
        world.emit("i1", CLOSED)
        await world.until(lambda: ("i1", 3) in world.taken("pager"))
        world.answers["pager"] = lambda _: 200
        assert await world.store.retry("default", str(world.shown("pager")[1]["id"]))
        await world.until(world.is_done)
    assert world.taken("pager") == [("i1", 1), ("i1", 3)]
    assert world.states("pager")["i1", 2] == "superseded"


async def test_what_a_person_drops_is_not_sent_and_lets_the_next_go(make: Make) -> None:
    world = make(siem=ONE)
    world.answers["siem"] = lambda body: 500 if body["events"][0][1] == 1 else 200
    world.emit("i1", OPENED)
    world.emit("i1", CLOSED)
    async with world.running():
        await world.until(lambda: len(world.sent) > 2)
        assert await world.store.drop("default", str(world.shown("siem")[0]["id"]))
        await world.until(world.is_done)
    assert world.taken("siem") == [("i1", 2)]
    assert world.states("siem")["i1", 1] == "dropped"


async def test_what_is_dropped_while_it_is_under_way_stays_dropped(make: Make) -> None:
    world = make(siem=ONE)
    world.takes_s["siem"] = 5
    world.emit("i1", OPENED)
    world.emit("i1", CLOSED)
    async with world.running():
        await world.run(2)
        assert await world.store.drop("default", str(world.shown("siem")[0]["id"]))
        await world.until(world.is_done)
    assert world.states("siem") == {("i1", 1): "dropped", ("i1", 2): "delivered"}


@pytest.mark.parametrize("probes", [True, False])
async def test_a_destination_that_refuses_us_is_asked_once_a_minute_and_loses_nothing(
    make: Make, *, probes: bool
) -> None:
    world = make(siem=ONE)
    world.connectors["siem"].probes = probes
    world.answers["siem"] = lambda _: 401 if world.seconds < 600 else 200
    for number in range(20):
        world.emit(f"i{number}", OPENED)
    async with world.running():
        await world.run(590)
        assert len(world.sent) <= 11
        assert world.meter.refusing == {"siem": True}
        await world.until(world.is_done, within_s=120)
        await world.run(2)
    assert len(set(world.taken("siem"))) == 20
    # Two incidents are refused before it is the destination's fault; then it is asked once a minute.
    assert {sent.path for sent in world.sent[2:10]} == ({"probe"} if probes else {""})
    assert [(kind, reason) for _, _, kind, reason in world.troubles] == [
        ("blocked", "HTTP 401 (the credentials were refused)"),
        ("blocked", None),
    ]
    assert world.meter.refusing == {"siem": False}


async def test_a_destination_that_wants_to_be_left_alone_is_asked_rarely_and_loses_nothing(
    make: Make,
) -> None:
    world = make(replace(HOURS, policies={"hook": Policy(disabled_s=3600)}))
    world.foreign["hook"] = load("callback")(
        load("callback").Settings(**load("callback").example | {"url": "https://hook/x"})
    )
    world.answers["hook"] = lambda _: 410 if world.seconds < 4000 else 200
    for incident in "abc":
        world.emit(incident, OPENED)
    async with world.running():
        await world.run(3500)
        assert len(world.of("hook")) == 1  # not even another event is tried
        await world.run(4000)
        assert world.states("hook") == dict.fromkeys([("a", 1), ("b", 1), ("c", 1)], "delivered")
    assert [sent.at_s // 3600 for sent in world.of("hook")] == [0, 1, 2, 2, 2]
    assert [(kind, reason is None) for _, _, kind, reason in world.troubles][-1] == ("blocked", True)


async def test_what_the_settings_give_up_blocks_nothing_however_often(make: Make) -> None:
    world = make()
    settings = load("callback").Settings(
        **load("callback").example | {"url": "https://hook/x", "drop_on": [404]}
    )
    world.foreign["hook"] = connectors.make("callback", settings)
    world.answers["hook"] = lambda _: 404
    for number in range(12):
        world.emit(f"i{number}", OPENED)
    async with world.running():
        await world.until(world.is_done, within_s=60)
    assert set(world.states("hook").values()) == {"dead"}
    assert [kind for _, _, kind, _ in world.troubles if kind == "blocked"] == []


@pytest.mark.parametrize("caps", [ONE, EVERY, CHAT], ids=["one", "batch", "newest"])
async def test_one_event_that_is_refused_does_not_stop_the_others_and_is_given_up_in_the_end(
    make: Make, caps: Caps
) -> None:
    """A filter in front of the destination dislikes one text; what stands behind it in its line waits."""
    world = make(HOURS, d=caps)
    world.answers["d"] = lambda body: 403 if ["bad", 1] in [e[:2] for e in body["events"]] else 200
    for incident in ("good0", "bad", "good1", "good2"):
        world.emit(incident, OPENED)
    async with world.running() as dispatcher:
        await world.until(lambda: {("good1", 1), ("good2", 1)} <= set(world.taken("d")), within_s=70)
        for number in range(3, 20):
            world.emit(f"good{number}", OPENED)
            dispatcher.wake()
            await world.until(lambda n=number: (f"good{n}", 1) in world.taken("d"), within_s=70)
            await world.run(400)
        assert world.states("d")["bad", 1] == "dead"
        world.emit("bad", CLOSED)
        await world.until(lambda: world.states("d").get(("bad", 2)) == "delivered")
    assert "refused 8 times; last: HTTP 403" in world.shown("d")[1]["reason"]
    assert [kind for _, _, kind, reason in world.troubles if reason] == ["stuck", "dead_letters"]


@pytest.mark.parametrize("caps", [ONE, EVERY], ids=["one", "batch"])
@pytest.mark.parametrize("names", [True, False], ids=["one is named", "all alike"])
async def test_a_destination_that_rejects_everything_blocks_before_all_is_thrown_away(
    make: Make, caps: Caps, *, names: bool
) -> None:
    """A wrong signing secret is a 400 for every event. It is no fault of the events."""
    world = make(siem=caps)
    world.answers["siem"] = lambda _: 400 if world.seconds < 600 else 200
    connector = world.connectors["siem"]
    judge = connector.judge

    def naming(rendered: Rendered, response: Response) -> Sequence[Verdict]:
        """Judge as where the answer says which event it was that it dislikes: the first, as Splunk does."""
        verdicts = judge(rendered, response)
        if isinstance(verdicts[0], Reject):
            return [verdicts[0], *(Retry(reason="not looked at") for _ in verdicts[1:])]
        return verdicts

    if names:
        connector.judge = naming  # type: ignore[method-assign]
    for number in range(50):
        world.emit(f"i{number}", OPENED)
    async with world.running():
        await world.run(590)
        assert sorted(world.states("siem").values()).count("dead") == 4
        assert "blocked" in [kind for _, _, kind, _ in world.troubles]
        await world.until(world.is_done)
    assert len(world.taken("siem")) == 46


async def test_a_probe_with_an_unclear_answer_lets_one_real_event_find_out(make: Make) -> None:
    world = make(siem=ONE)
    world.connectors["siem"].probes = True
    first = iter([401])
    world.answers["siem"] = lambda body: 500 if body["path"] == "probe" else next(first, 200)
    world.emit("i1", OPENED)
    async with world.running():
        await world.until(world.is_done, within_s=70)
    assert [sent.path for sent in world.sent] == ["", "probe", ""]


async def test_a_good_probe_with_nothing_left_to_try_ends_the_trouble(make: Make) -> None:
    world = make(siem=ONE)
    world.connectors["siem"].probes = True
    world.answers["siem"] = lambda body: 200 if body["path"] == "probe" else 401
    world.emit("i1", OPENED)
    async with world.running():
        await world.run(30)
        assert await world.store.drop("default", str(world.shown("siem")[0]["id"]))
        await world.run(60)
    assert [(kind, reason is None) for _, _, kind, reason in world.troubles] == [
        ("blocked", False), ("blocked", True),
    ]  # fmt: skip


async def test_trouble_that_could_not_be_told_is_told_later(make: Make) -> None:
    world = make(siem=ONE)
    world.answers["siem"] = lambda _: 403
    told = world._trouble

    async def failing(destination: str, kind: str, reason: str | None) -> None:
        if world.seconds < 30:
            raise TimeoutError
        await told(destination, kind, reason)

    world._trouble = failing  # type: ignore[method-assign]
    world.emit("i1", OPENED)
    async with world.running():
        await world.run(40)
    assert [kind for _, _, kind, _ in world.troubles] == ["blocked"]


async def test_an_event_that_is_no_longer_stored_is_given_up_and_the_others_go(make: Make) -> None:
    world = make(siem=EVERY)
    lost = world.emit("i1", OPENED)
    world.emit("i2", OPENED)
    world.forget(lost)
    async with world.running():
        await world.until(world.is_done)
    assert world.states("siem") == {("i1", 1): "dead", ("i2", 1): "delivered"}


async def test_a_connector_that_breaks_on_one_event_delivers_the_others(make: Make) -> None:
    world = make(siem=EVERY)
    connector = world.connectors["siem"]
    render = connector.render

    def broken(events: Any, *more: Any) -> Any:
        if any(each.incident.id == "bad" for each in events):
            raise KeyError("a secret")
        return render(events, *more)

    connector.render = broken  # type: ignore[method-assign]
    for incident in ("a", "bad", "c"):
        world.emit(incident, OPENED)
    async with world.running():
        await world.until(world.is_done)
    assert world.states("siem") == {("a", 1): "delivered", ("bad", 1): "dead", ("c", 1): "delivered"}
    assert "secret" not in world.shown("siem")[1]["reason"]


async def test_a_request_that_cannot_be_sealed_goes_again_and_blocks_nobody(make: Make) -> None:
    world = make(siem=ONE)
    seal, broken = world.connectors["siem"].seal, iter([True])

    def sealing(*given: Any) -> Request:
        if next(broken, False):
            raise KeyError("a bug")
        return seal(*given)

    world.connectors["siem"].seal = sealing  # type: ignore[method-assign]
    world.emit("i1", OPENED)
    async with world.running():
        await world.until(world.is_done, within_s=10)
    assert world.taken("siem") == [("i1", 1)]
    assert not world.meter.refusing


async def test_a_bug_in_probing_or_looking_after_ends_nothing(make: Make) -> None:
    """The dispatcher's task lives in the process that takes in webhooks: it must not end."""
    world = make(siem=ONE)
    world.connectors["siem"].probes = True
    world.answers["siem"] = lambda _: 401 if world.seconds < 200 else 200
    world.emit("i1", OPENED)
    async with world.running() as dispatcher:
        standing = dispatcher.workers["siem"]._standing
        learn, told = standing.learn_probe, world._trouble

        def learning(*given: Any) -> None:
            if world.seconds < 130:
                raise KeyError("a bug")
            learn(*given)

        async def telling(*given: Any) -> None:
            if world.seconds < 130:
                raise KeyError("a bug")
            await told(*given)

        def measuring(*_: Any) -> None:
            raise KeyError("a bug")

        standing.learn_probe = learning  # type: ignore[method-assign]
        world._trouble = telling  # type: ignore[method-assign]
        world.meter.backlog = measuring  # type: ignore[method-assign]
        await world.run(125)
        assert [sent.path for sent in world.sent].count("probe") == 2
        await world.until(world.is_done, within_s=240)
        await world.run(10)
    assert world.taken("siem") == [("i1", 1)]
    assert [kind for _, _, kind, _ in world.troubles] == ["blocked", "blocked"]


async def test_a_sender_that_raises_is_an_attempt_without_an_answer(make: Make) -> None:
    world = make(siem=ONE)

    def raising(_: Any) -> int:
        if world.seconds < 3:
            raise RuntimeError("a bug")
        return 200

    world.answers["siem"] = raising
    world.emit("i1", OPENED)
    async with world.running():
        await world.until(world.is_done)
    assert world.taken("siem") == [("i1", 1)]


async def test_a_sender_that_does_not_come_back_is_cut_off_and_the_repeat_is_flagged(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut off by the real clock, which is waited for here."""
    monkeypatch.setattr(sending, "GRACE_S", 0.0)
    world = make(DispatchSettings(attempt_timeout_s=0.05), siem=ONE)
    send, cut_off = world.send, asyncio.Event()

    async def hanging(request: Request, *, timeout_s: float) -> Response:
        if cut_off.is_set():
            return await send(request, timeout_s=timeout_s)
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()
        raise AssertionError("nothing sets it")

    world.send = hanging  # type: ignore[method-assign]
    world.emit("i1", OPENED)
    async with world.running():
        await world.run(1)
        async with asyncio.timeout(10):
            await cut_off.wait()
        await world.run(0)
        assert world.shown("siem")[0]["reason"] == "no answer within 0.05 s"
        await world.until(world.is_done)
    assert world.shown("siem")[0]["maybe_duplicate"]
