"""What a destination does not take goes to its fallback, once and marked."""

from __future__ import annotations

from collections.abc import Callable

from dispatching import CHAT, ONE, World
from msgspec.structs import replace

from bridge.delivery import Fallback
from bridge.dispatch import DispatchSettings
from bridge.model import EventKind
from connectors import load

Make = Callable[..., World]
OPENED, UPDATED, CLOSED = EventKind.OPENED, EventKind.UPDATED, EventKind.CLOSED
SETTINGS = DispatchSettings(
    poll_s=10, look_every_s=5, measure_every_s=10, fallbacks={"siem": Fallback(to="mail", after_s=120)}
)


async def test_a_dead_letter_goes_to_the_fallback_once_and_stays_where_it_is(make: Make) -> None:
    world = make(SETTINGS, siem=ONE, mail=ONE)
    world.answers["siem"] = lambda body: 400 if body["events"][0][0] == "bad" else 200
    world.emit("bad", OPENED, "siem")
    world.emit("good", OPENED, "siem")
    async with world.running():
        await world.run(120)
    async with world.running():  # a restart gives nothing twice
        await world.run(120)
    assert world.taken("mail") == [("bad", 1)]
    assert world.states("siem") == {("bad", 1): "dead", ("good", 1): "delivered"}
    assert [each["instead_of"] for each in world.shown("mail")] == ["siem"]
    assert world.meter.results["siem", "diverted"] == 1


async def test_what_waits_for_a_destination_that_refuses_us_goes_to_the_fallback_and_later_there_too(
    make: Make,
) -> None:
    world = make(SETTINGS, siem=ONE, mail=ONE)
    world.answers["siem"] = lambda _: 401 if world.seconds < 600 else 200
    for incident in "abc":
        world.emit(incident, OPENED, "siem")
    async with world.running():
        await world.run(110)
        assert world.taken("mail") == []
        await world.until(lambda: len(world.taken("mail")) == 3, within_s=60)
        world.emit("d", OPENED, "siem")
        await world.until(lambda: ("d", 1) in world.taken("mail"), within_s=60)
        await world.until(lambda: world.is_done("siem"))
    assert sorted(world.taken("siem")) == sorted(world.taken("mail")) == [(each, 1) for each in "abcd"]


async def test_a_destination_that_takes_nothing_counts_as_down_too(make: Make) -> None:
    world = make(SETTINGS, siem=ONE, mail=ONE)
    world.answers["siem"] = lambda _: 502
    world.emit("a", OPENED, "siem")
    async with world.running():
        await world.until(lambda: world.taken("mail") == [("a", 1)], within_s=300)


async def test_a_short_outage_leaves_the_fallback_alone(make: Make) -> None:
    world = make(SETTINGS, siem=ONE, mail=ONE)
    world.answers["siem"] = lambda _: 401 if world.seconds < 70 else 200
    world.emit("a", OPENED, "siem")
    async with world.running():
        await world.run(400)
    assert world.of("mail") == []


async def test_what_the_fallback_has_by_its_own_route_is_not_doubled(make: Make) -> None:
    world = make(SETTINGS, siem=ONE, mail=ONE)
    world.answers["siem"] = lambda _: 400
    world.emit("a", OPENED)
    async with world.running():
        await world.run(120)
    assert world.taken("mail") == [("a", 1)]
    assert [each["instead_of"] for each in world.shown("mail")] == [""]


async def test_events_of_an_incident_keep_their_order_at_the_fallback(make: Make) -> None:
    world = make(SETTINGS, siem=ONE, mail=ONE)
    world.answers["siem"] = lambda _: 403
    for kind in (OPENED, UPDATED, UPDATED, CLOSED):
        world.emit("a", kind, "siem")
    async with world.running():
        await world.run(400)
    assert world.taken("mail") == [("a", 1), ("a", 2), ("a", 3), ("a", 4)]


async def test_a_fallback_that_shows_the_state_gets_the_newest(make: Make) -> None:
    world = make(SETTINGS, siem=ONE, mail=CHAT)
    world.answers["siem"] = lambda _: 403
    for kind in (OPENED, UPDATED, UPDATED):
        world.emit("a", kind, "siem")
    async with world.running():
        await world.run(400)
    assert world.taken("mail") == [("a", 3)]


async def test_the_fallback_of_a_fallback_says_instead_of_whom_it_first_was(make: Make) -> None:
    chain = {"siem": Fallback(to="mail"), "mail": Fallback(to="log")}
    world = make(replace(SETTINGS, fallbacks=chain), siem=ONE, mail=ONE, log=ONE)
    world.answers |= {"siem": lambda _: 400, "mail": lambda _: 400}
    world.emit("a", OPENED, "siem")
    async with world.running():
        await world.until(lambda: world.taken("log") == [("a", 1)], within_s=120)
    assert [each["instead_of"] for each in world.shown("log")] == ["siem"]


async def test_the_mark_is_in_what_is_sent(make: Make) -> None:
    world = make(replace(SETTINGS, fallbacks={"siem": Fallback(to="hook")}), siem=ONE)
    world.foreign["hook"] = load("callback")(
        load("callback").Settings(**load("callback").example | {"url": "https://hook/x"})
    )
    world.answers["siem"] = lambda _: 400
    world.emit("a", OPENED, "siem")
    async with world.running():
        await world.until(lambda: len(world.of("hook")) == 1, within_s=120)
    (sent,) = world.of("hook")
    assert sent.body["data"]["instead_of"] == "siem"
    assert sent.body["data"]["incident"]["title"].startswith("[instead of siem] ")
