"""How much is held at once, by whom, and for how long."""

from __future__ import annotations

import asyncio
import threading

import pytest
from bodies import alert, body
from doors import JSON, URL, status_line
from hypothesis import given
from hypothesis import strategies as st

from bridge.auth import Grant
from bridge.intake import Allowance, Budget, Hold, bodies
from bridge.intake import door as intake_door
from bridge.intake.budget import LARGE_BYTES, LARGE_COST
from bridge.intake.terms import RefusedError
from bridge.model import RowKind

MIB = 1 << 20

# ---- the arithmetic --------------------------------------------------------------------------------------


def test_a_large_body_counts_with_what_it_really_costs():
    budget = Budget(100 * MIB)
    small, large = Hold(budget, "a"), Hold(budget, "b")
    small.grow(LARGE_BYTES)
    assert budget.held_bytes == MIB
    large.grow(10 * MIB)
    assert budget.held_bytes == MIB + LARGE_COST * 10 * MIB
    large.release()
    small.release()
    assert budget.held_bytes == 0


def test_large_bodies_leave_room_for_small_ones():
    budget = Budget(64 * MIB)
    for holder in range(8):
        Hold(budget, holder).grow(2 * MIB)
    with pytest.raises(RefusedError, match="too much is being received"):
        Hold(budget, 8).grow(2 * MIB)
    assert budget.held_bytes == 48 * MIB  # three quarters
    Hold(budget, "small").grow(MIB)


@pytest.mark.parametrize(("size", "times"), [(MIB // 2, 64), (2 * MIB, 4)])
def test_nobody_has_more_than_half_of_what_is_shared(size: int, times: int):
    budget = Budget(64 * MIB)
    for _ in range(times):
        Hold(budget, "greedy").grow(size)
    with pytest.raises(RefusedError, match="received from you"):
        Hold(budget, "greedy").grow(size)
    Hold(budget, "other").grow(size)


@pytest.mark.parametrize("size", [MIB // 2, 2 * MIB])
def test_however_many_take_what_they_can_get_there_is_room_for_one_more(size: int):
    budget = Budget(256 * MIB)
    for greedy in range(4):
        with pytest.raises(RefusedError, match="received from you"):  # noqa: PT012 - which one is refused is open
            for _ in range(1000):
                Hold(budget, greedy).grow(size)
    Hold(budget, "newcomer").grow(size)


def test_a_holder_may_have_a_bound_of_its_own_but_for_one_body():
    budget = Budget(256 * MIB)
    Hold(budget, "bound", 2 * MIB).grow(MIB)
    Hold(budget, "bound", 2 * MIB).grow(MIB)
    with pytest.raises(RefusedError, match="your quota"):
        Hold(budget, "bound", 2 * MIB).grow(1)
    Hold(budget, "large", 2 * MIB).grow(10 * MIB)
    Hold(budget, "free").grow(10 * MIB)


def test_the_largest_body_always_fits_and_only_once():
    budget = Budget(1, 64 * MIB)
    Hold(budget, "a").grow(64 * MIB)
    with pytest.raises(RefusedError):
        Hold(budget, "b").grow(64 * MIB)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from((0, 1, 1000, MIB, 2 * MIB, 30 * MIB))), max_size=60)
)
def test_what_is_held_is_bounded_and_all_of_it_comes_back(steps: list[tuple[int, int]]):
    """Each of six bodies of three holders grows, or ends with a step of 0."""
    budget = Budget(128 * MIB)
    holds = [Hold(budget, number % 3) for number in range(6)]
    for number, size in steps:
        if not size:
            holds[number].release()
            continue
        try:
            holds[number].grow(size)
        except RefusedError:
            assert holds[number].size_bytes == 0
        costs = [each.size_bytes * (LARGE_COST if each.size_bytes > MIB else 1) for each in holds]
        assert budget.held_bytes == sum(costs) <= 128 * MIB
        large = sum(cost for each, cost in zip(holds, costs, strict=True) if each.size_bytes > MIB)
        assert large <= 96 * MIB
    for hold in holds:
        hold.release()
    assert budget.held_bytes == 0
    assert budget._by_holder == {}


# ---- at the door -----------------------------------------------------------------------------------------


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(doors):
    door = await doors(max_body_bytes=1000, budget_bytes=1000)
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: 1001")
    assert await status_line(reader) == b"HTTP/1.1 413 Request Entity Too Large"
    writer.close()
    assert door.meter.reasons == {"too_large": 1}


async def test_a_body_that_turns_out_too_large_is_refused(doors):
    door = await doors(max_body_bytes=100_000, budget_bytes=100_000)

    async def endless():
        for _ in range(200):
            yield b"x" * 1000

    assert (await door.post(endless()))[0] == 413
    assert door.intake.budget.held_bytes == 0


async def test_without_budget_everybody_is_asked_to_come_again(doors):
    text = body(alert())
    door = await doors(max_body_bytes=len(text), budget_bytes=len(text) + 10)
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {len(text)}", text[:50])
    await door.until(len(text))
    async with door.client.post(URL, data=text, headers=JSON) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
    # The one who holds it is not disturbed, and what it held is free again.
    writer.write(text[50:])
    assert await status_line(reader) == b"HTTP/1.1 200 OK"
    writer.close()
    assert (await door.post(text))[0] == 200
    assert door.meter.reasons == {"busy": 1}


async def test_the_budget_is_held_until_the_answer(doors):
    text = body(alert())
    door = await doors(max_body_bytes=len(text), budget_bytes=len(text) + 10)
    door.inbox.open.clear()
    first = asyncio.Task(door.post(text))
    await door.until(len(text))
    assert (await door.post(text))[0] == 503
    door.inbox.open.set()
    assert (await first)[0] == 200


async def test_a_chunked_body_holds_what_it_takes(doors):
    door = await doors(max_body_bytes=200_000, budget_bytes=200_000)
    reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: 150000", b"x")
    await door.until(150_000)

    async def pieces():
        for _ in range(100):
            yield b" " * 1000

    assert (await door.post(pieces()))[0] == 503
    assert door.intake.budget.held_bytes == 150_000
    writer.close()
    await door.until(0)
    assert (await door.post(pieces()))[0] == 400
    assert await reader.read() == b""


async def test_a_budget_below_the_largest_body_is_raised_to_it(doors):
    door = await doors(max_body_bytes=100_000, budget_bytes=1)
    assert (await door.post(body(*[alert()] * 100)))[0] == 200


async def test_a_slow_body_is_asked_to_come_again(doors):
    door = await doors(body_timeout_s=0.05)
    for head in ("Content-Length: 500", "Transfer-Encoding: chunked"):
        reader, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\n{head}")
        assert await status_line(reader) == b"HTTP/1.1 503 Service Unavailable"
        writer.close()
    assert door.meter.reasons == {"slow": 2}
    await door.until(0)


async def test_a_sender_that_goes_away_leaves_nothing_behind(doors):
    door = await doors()
    for head in ("Content-Length: 500", "Transfer-Encoding: chunked"):
        _, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\n{head}", b"1\r\nx")
        while not door.connections:
            await asyncio.sleep(0)
        writer.close()
        while door.connections:
            await asyncio.sleep(0)
    await door.until(0)
    assert door.meter.reasons == {"broken": 2}
    assert (await door.post(body(alert())))[0] == 200
    assert len(door.inbox.rows) == 1


def test_an_allowance_comes_back_with_time_and_is_not_saved_up():
    allowance = Allowance(600)
    assert allowance.spend(600, 1000.0)
    assert not allowance.spend(1, 1000.0)
    assert allowance.spend(100, 1010.0)
    assert not allowance.spend(1, 1010.0)
    assert not allowance.spend(601, 9000.0)
    assert allowance.spend(600, 9000.0)


async def silent(door, size: int, **headers: str):
    """Announce a body of which nothing comes."""
    more = "".join(f"\n{name}: {value}" for name, value in headers.items())
    return await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {size}{more}")


async def test_silent_senders_of_large_bodies_do_not_shut_the_door(doors):
    door = await doors(max_body_bytes=8 * MIB, budget_bytes=32 * MIB)
    writers = [(await silent(door, 8 * MIB))[1] for _ in range(4)]
    await door.until(24 * MIB)
    assert (await door.post(body(alert())))[0] == 200
    for writer in writers:
        writer.close()


async def test_one_tenant_does_not_shut_the_door_for_another(doors):
    tokens = [(f"{name}-token-0123456789", Grant(tenant=name, role="sender")) for name in ("acme", "other")]
    door = await doors(tokens=tokens, max_body_bytes=1 * MIB, budget_bytes=16 * MIB)
    acme, other = ({"Authorization": f"Bearer {token}"} for token, _ in tokens)
    writers = [(await silent(door, MIB, **acme))[1] for _ in range(20)]
    await door.until(8 * MIB)
    assert (await door.post(b"{", headers=JSON | acme))[0] == 503
    assert (await door.post(body(alert()), headers=JSON | other))[0] == 200
    for writer in writers:
        writer.close()


async def test_a_body_must_come_in_step_with_its_time(doors, monkeypatch):
    """Of a body that is given 20 s nothing has come at the end of its grace; of another, enough."""
    monkeypatch.setattr(bodies, "GRACE_S", 0.1)
    door = await doors()
    text = body(*[alert()] * 500)
    slow, writer = await door.raw(f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {len(text)}", text[:100])
    steady, other = await door.raw(
        f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: {len(text)}", text[:80_000]
    )
    assert await status_line(slow) == b"HTTP/1.1 503 Service Unavailable"
    writer.close()
    assert door.meter.reasons == {"slow": 1}
    other.write(text[80_000:])
    assert await status_line(steady) == b"HTTP/1.1 200 OK"
    other.close()


async def test_the_loop_goes_on_while_a_large_body_is_checked(doors, monkeypatch):
    def slow(text: bytes) -> int:
        checked.append(len(text))
        going.wait(10)
        return 0

    checked: list[int] = []
    going = threading.Event()
    monkeypatch.setattr(intake_door, "WEBHOOKS", intake_door.Incoming(RowKind.WEBHOOK, slow))
    door = await doors()
    text = body(receiver="x" * MIB)
    waiting = [asyncio.Task(door.post(text)) for _ in range(2)]
    while not checked:
        await asyncio.sleep(0)
    async with door.client.get("/no-such-page") as answer:
        assert answer.status == 404
    assert checked == [len(text)]  # one at a time
    going.set()
    assert [answer for answer, _ in await asyncio.gather(*waiting)] == [200, 200]
