"""The delivery store: nothing is lost between claim and commit, lines keep their order, bounds hold."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import START, at
from msgspec.structs import replace

from bridge.delivery import (
    Backlog,
    Claim,
    GivenUp,
    LineKey,
    OutboxPlace,
    OutboxRow,
    Policy,
    Retention,
    Room,
    Settlement,
    Told,
    settle,
)
from bridge.errors import StorageError, StoreFullError
from bridge.model import (
    Blocked,
    Delivered,
    Delivery,
    DeliveryState,
    EventKind,
    Pending,
    Reject,
    Retry,
    Verdict,
)
from bridge.storage.deliveries import DeliveryStore, OutboxReader
from bridge.storage.sqlite import open_writer

S = DeliveryState


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[DeliveryStore]:
    with closing(DeliveryStore(tmp_path / "delivery.db", clock=clock)) as opened:
        yield opened


def row(number: int, incident: str = "i1", seq: int = 1, **changes: Any) -> OutboxRow:
    """Return an outbox row for destination "d", due at once."""
    values: dict[str, Any] = {
        "id": number,
        "tenant": "default",
        "destination": "d",
        "event_id": f"{incident}-{seq}",
        "incident": incident,
        "seq": seq,
        "kind": EventKind.OPENED if seq == 1 else EventKind.UPDATED,
        "at": START,
        "not_before": START,
    }
    return OutboxRow(**(values | changes))


async def due(store: DeliveryStore, *, follow: int | None = None) -> Any:
    """Return all that destination "d" can start."""
    return await store.due("d", Room(requests=100, lines=100, follow=follow))


@pytest.mark.parametrize("ahead_s", [0.0, 7200.0])
async def test_an_inbox_whose_clock_is_ahead_holds_nothing_back(
    store: DeliveryStore, clock: Clock, ahead_s: float
):
    """The wait of 30 s counts from now on, however far ahead the time is that the inbox gave to the event."""
    made = START + timedelta(seconds=ahead_s)
    await store.take_in([row(1, at=made, not_before=made + timedelta(seconds=30))])
    clock.forward(29.0)
    assert not (await due(store)).lines
    clock.forward(1.0)
    assert (await due(store)).lines


@pytest.mark.parametrize(("back_s", "moved_s"), [(0.0, 0.0), (4.0, 0.0), (3600.0, 3600.0)])
async def test_what_waits_is_moved_along_with_a_clock_that_was_set_back(
    store: DeliveryStore, clock: Clock, back_s: float, moved_s: float
):
    """The wait of 30 s stays one of 30 s; a clock that is off by seconds, as all are, moves nothing."""
    await store.take_in([row(1, at=START, not_before=START + timedelta(seconds=30))])
    clock.forward(-back_s)
    assert await store.follow_clock() == moved_s
    assert await store.follow_clock() == 0.0
    clock.forward(29.0 + back_s - moved_s)
    assert not (await due(store)).lines
    clock.forward(1.0)
    assert (await due(store)).lines


def claim_of(*deliveries: Delivery, request: bytes = b"bytes") -> Claim:
    """Return a claim of a batch."""
    return Claim(
        destination="d",
        request=request,
        event_ids=tuple(each.event_id for each in deliveries),
        step="",
        deliveries=deliveries,
    )


async def claimed(store: DeliveryStore, *deliveries: Delivery, request: bytes = b"bytes") -> int:
    """Claim a batch; return the request's id."""
    (number,) = await store.claim([], [claim_of(*deliveries, request=request)])
    assert number is not None
    return number


async def answered(
    store: DeliveryStore,
    number: int,
    deliveries: list[Delivery],
    *verdicts: Verdict,
    jitter: float = 0.0,
) -> Settlement:
    """Settle a request with these verdicts."""
    tried = [replace(each, attempts=each.attempts + 1) for each in deliveries]
    settlement = settle(number, tried, {}, verdicts, store._clock(), jitter, Policy())
    await store.settle(settlement)
    return settlement


async def heads(store: DeliveryStore) -> list[Delivery]:
    """Return the first waiting delivery of each line that is due."""
    return [line.waiting[0] for line in (await due(store)).lines]


# ---- taking in ---------------------------------------------------------------------------------------------


async def test_rows_are_taken_in_once_and_the_cursor_goes_with_them(store: DeliveryStore) -> None:
    assert await store.take_in([row(1), row(2, "i2")]) == {"d"}
    assert await store.take_in([row(2, "i2"), row(3, "i2")]) == frozenset()  # the same events again
    assert await store.cursor() == OutboxPlace(outbox="", id=3)
    assert [each.event_id for each in await heads(store)] == ["i1-1", "i2-1"]


async def test_a_line_is_due_when_its_earliest_untried_event_is(store: DeliveryStore, clock: Clock) -> None:
    await store.take_in([row(1, not_before=at(30)), row(2, seq=2, not_before=at(10))])
    assert (await due(store)).next_at == at(10)
    clock.forward(10)
    (line,) = (await due(store)).lines
    assert [each.seq for each in line.waiting] == [1, 2]


async def test_what_joins_a_line_does_not_shorten_the_wait_of_what_was_tried(store: DeliveryStore) -> None:
    await store.take_in([row(1)])
    (head,) = await heads(store)
    number = await claimed(store, head)
    await store.take_in([row(2, seq=2)])
    assert (await due(store)).lines == ()
    await answered(store, number, [head], Retry(reason="busy", after_s=60))
    await store.take_in([row(3, seq=3)])
    found = await due(store)
    assert (found.lines, found.frozen, found.next_at) == ((), (), at(60))


# ---- claim and settle --------------------------------------------------------------------------------------


async def test_a_claim_holds_its_lines_until_it_is_settled(store: DeliveryStore) -> None:
    await store.take_in([row(1), row(2, seq=2), row(3, "i2")])
    first = await heads(store)
    number = await claimed(store, *first)
    assert (await due(store)).lines == ()
    await answered(store, number, first, Delivered(), Delivered())
    assert [each.event_id for each in await heads(store)] == ["i1-2"]


async def test_a_retried_batch_comes_back_with_the_same_bytes_in_the_same_order(
    store: DeliveryStore, clock: Clock
) -> None:
    await store.take_in([row(1, "b"), row(2, "a")])
    batch = await heads(store)
    number = await claimed(store, *batch, request=b"\x00as sent")
    await answered(store, number, batch, *[Retry(reason="503", after_s=5, maybe_sent=True)] * 2)
    clock.forward(5)
    (frozen,) = (await due(store)).frozen
    assert (frozen.request, frozen.event_ids) == (b"\x00as sent", ("a-1", "b-1"))
    assert all(each.maybe_duplicate and each.attempts == 1 for each in frozen.deliveries)
    assert frozen.told[LineKey("default", "a")].maybe
    assert await store.reclaim(number)
    assert not await store.reclaim(number)
    assert (await due(store)).frozen == ()


async def test_what_is_left_of_a_batch_is_released_to_be_rendered_anew(store: DeliveryStore) -> None:
    await store.take_in([row(1, "a"), row(2, "b")])
    batch = await heads(store)
    number = await claimed(store, *batch)
    await answered(store, number, batch, Delivered(), Retry(reason="full", after_s=0))
    found = await due(store)
    assert found.frozen == ()
    assert [each.waiting[0].event_id for each in found.lines] == ["b-1"]


async def test_what_awaits_an_acknowledgement_keeps_its_request(store: DeliveryStore, clock: Clock) -> None:
    await store.take_in([row(1, "a"), row(2, "b"), row(3, "a", 2)])
    batch = await heads(store)
    number = await claimed(store, *batch)
    await answered(store, number, batch, Pending(token="t", after_s=2), Retry(reason="full", after_s=9))
    clock.forward(2)
    (frozen,) = (await due(store)).frozen
    assert [(each.event_id, each.state, each.token) for each in frozen.deliveries] == [
        ("a-1", S.PENDING, "t")
    ]
    assert (await due(store)).lines == ()


async def test_a_batch_of_which_only_a_part_lost_its_acknowledgement_is_not_sent_whole_again(
    store: DeliveryStore, clock: Clock
) -> None:
    await store.take_in([row(1, "a"), row(2, "b")])
    batch = await heads(store)
    number = await claimed(store, *batch)
    await answered(store, number, batch, Pending(token="t", after_s=2), Delivered())
    clock.forward(2)
    (frozen,) = (await due(store)).frozen
    await store.reclaim(number)
    await answered(store, number, list(frozen.deliveries), Retry(reason="it was lost", after_s=0))
    found = await due(store)
    assert found.frozen == ()
    assert [each.waiting[0].event_id for each in found.lines] == ["a-1"]


async def test_memory_and_what_was_told_are_committed_with_the_verdict(store: DeliveryStore) -> None:
    await store.take_in([row(1), row(2, seq=2), row(3, seq=3)])
    for memory in ({"ts": "1.2"}, None):
        (head,) = await heads(store)
        await answered(store, await claimed(store, head), [head], Delivered(memory=memory))
    (line,) = (await due(store)).lines
    assert (line.memory, line.told) == ({"ts": "1.2"}, Told(seq=2, kind=EventKind.UPDATED))


async def test_a_delivery_that_was_dropped_meanwhile_spoils_only_its_own_claim(store: DeliveryStore) -> None:
    await store.take_in([row(1, "a"), row(2, "b")])
    first, second = await heads(store)
    assert await store.drop("default", str(store.listed("default").items[1]["id"]))
    ids = await store.claim([], [claim_of(first), claim_of(second)])
    assert ids[0] is None
    assert ids[1] is not None
    assert store.counts("default") | {"waiting": 1, "dropped": 1} == store.counts("default")


async def test_ending_and_claiming_are_one_transaction(store: DeliveryStore) -> None:
    await store.take_in([row(1), row(2, seq=2)])
    (line,) = (await due(store)).lines
    old, new = line.waiting
    await store.claim([replace(old, state=S.SUPERSEDED, reason="newer")], [claim_of(new)])
    assert [each["state"] for each in store.of_incident("default", "i1")] == ["superseded", "waiting"]


async def test_a_newer_event_behind_a_frozen_request_is_seen_and_thawing_frees_the_line(
    store: DeliveryStore,
) -> None:
    await store.take_in([row(1)])
    (head,) = await heads(store)
    number = await claimed(store, head)
    await answered(store, number, [head], Retry(reason="503", after_s=0))
    assert not (await due(store)).frozen[0].overtaken
    await store.take_in([row(2, seq=2)])
    assert (await due(store)).frozen[0].overtaken
    await store.thaw(number)
    (line,) = (await due(store)).lines
    assert [each.seq for each in line.waiting] == [1, 2]


async def test_other_settings_thaw_what_was_frozen_under_the_old_ones(store: DeliveryStore) -> None:
    await store.take_in([row(1, "a"), row(2, "b"), row(3, "c"), row(4, "e", destination="e")])
    assert await store.adopt({"d": "one", "e": "one"}) == 0
    batch = await heads(store)
    numbers = [await claimed(store, each) for each in batch]
    await answered(store, numbers[0], [batch[0]], Retry(reason="503", after_s=0))
    await answered(store, numbers[1], [batch[1]], Pending(token="t", after_s=0))
    assert await store.adopt({"d": "one", "e": "two"}) == 0
    assert await store.adopt({"d": "two", "e": "two"}) == 1
    found = await due(store)
    assert [each.event_ids for each in found.frozen] == [("b-1",)]  # accepted; its answer is still awaited
    assert [line.key.incident for line in found.lines] == ["a"]  # c is under way


async def test_what_waited_with_its_destination_is_hastened_and_other_waits_stand(
    store: DeliveryStore,
) -> None:
    await store.take_in([row(1, "a"), row(2, "b")])
    first, second = await heads(store)
    numbers = [await claimed(store, first), await claimed(store, second)]
    await answered(store, numbers[0], [first], Retry(reason="down", after_s=300, whole_destination=True))
    await answered(store, numbers[1], [second], Retry(reason="later", after_s=300))
    await store.hasten("d")
    found = await due(store)
    assert [each.event_ids for each in found.frozen] == [("a-1",)]
    assert found.next_at == START


async def found(store: DeliveryStore, requests: int, lines: int, **more: Any) -> tuple[list[str], list[str]]:
    """Return the events of the requests and the incidents of the lines that go first."""
    seen = await store.due("d", Room(requests=requests, lines=lines, **more))
    return [each.event_ids[0] for each in seen.frozen], [line.key.incident for line in seen.lines]


async def test_what_is_urgent_goes_before_what_is_older_until_it_is_everybodys_turn(
    store: DeliveryStore,
) -> None:
    await store.take_in(
        [
            row(1, "old", at=at(-9), not_before=at(-9)),
            row(2, "frozen", at=at(-8), not_before=at(-8)),
            row(3, "hot", at=at(-7), not_before=at(-7), urgent=True),
            row(4, "warm", at=at(-6), not_before=at(-6)),
            row(5, "hot frozen", at=at(-5), not_before=at(-5), urgent=True),
        ]
    )
    by_name = {each.incident: each for each in await heads(store)}
    for name in ("frozen", "hot frozen"):
        number = await claimed(store, by_name[name])
        await answered(store, number, [by_name[name]], Retry(reason="503", after_s=0))
    assert await found(store, 1, 1) == (["hot frozen-1"], ["hot"])
    assert await found(store, 2, 2) == (["hot frozen-1"], ["hot", "old"])
    assert await found(store, 3, 3) == (["hot frozen-1", "frozen-1"], ["hot", "old", "warm"])
    assert await found(store, 1, 1, by_age=True) == ([], ["old"])
    assert await found(store, 2, 1, by_age=True) == (["frozen-1"], ["old"])
    assert await found(store, 1, 1, fresh=True) == ([], ["hot"])
    assert await found(store, 2, 1, fresh=True) == (["hot frozen-1"], ["hot"])


async def test_an_incident_that_becomes_critical_takes_its_line_to_the_front(store: DeliveryStore) -> None:
    await store.take_in([row(1, "a"), row(2, "b"), row(3, "b", 2, urgent=True)])
    assert await found(store, 1, 1) == ([], ["b"])
    (line,) = (await store.due("d", Room(requests=1, lines=1))).lines
    await store.claim([replace(each, state=S.SUPERSEDED) for each in line.waiting], [])
    assert await found(store, 1, 1) == ([], ["a"])


async def test_a_reading_stops_at_the_deliveries_there_is_room_for(store: DeliveryStore) -> None:
    await store.take_in([row(n, f"i{n % 5}", n) for n in range(1, 51)])
    seen = await store.due("d", Room(requests=1, lines=100, follow=6, deliveries=10))
    assert [len(line.waiting) for line in seen.lines] == [6, 6]


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(
    ("verdict", "due_s"),
    [
        (Retry(reason="500"), 0),
        (Retry(reason="500", of_event=True), 0),
        (Blocked(reason="401"), 0),
        (Retry(reason="500", after_s=400), 400),  # the destination has asked for it
    ],
)
async def test_what_becomes_urgent_does_not_wait_for_the_next_try_of_what_is_older(
    store: DeliveryStore, verdict: Verdict, due_s: float, *, frozen: bool
) -> None:
    await store.take_in([row(1)])
    (head,) = await heads(store)
    number = await claimed(store, head)
    await answered(store, number, [replace(head, attempts=20)], verdict, jitter=1.0)
    if not frozen:
        await store.thaw(number)
    assert (await due(store)).next_at > START
    await store.take_in([row(2, seq=2)])
    assert (await due(store)).next_at > START
    await store.take_in([row(3, seq=3, urgent=True)])
    assert (await due(store)).next_at == at(due_s)


@pytest.mark.parametrize(
    ("kind", "step", "due_s"),
    [
        (EventKind.REMINDER, "rest", 5),
        (EventKind.CLOSED, "rest", 5),
        (EventKind.UPDATED, "rest", 30),  # hardly anybody is told of one; the rest has its own time
        (EventKind.CLOSED, "", 30),
    ],
)
async def test_what_is_newer_does_not_wait_for_a_refused_rest_of_what_is_older(
    store: DeliveryStore, kind: EventKind, step: str, due_s: float
) -> None:
    await store.take_in([row(1)])
    (head,) = await heads(store)
    number = await claimed(store, head)
    await answered(store, number, [replace(head, step=step)], Reject(reason="452", final=False))
    assert (await due(store)).next_at == at(30)
    await store.take_in([row(2, seq=2, kind=kind, not_before=at(5))])
    assert (await due(store)).next_at == at(due_s)


# ---- crashes -----------------------------------------------------------------------------------------------

CLAIM_AND_DIE = """
import asyncio, os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from bridge.delivery import Claim, Room
from bridge.storage.deliveries import DeliveryStore

async def main() -> None:
    store = DeliveryStore(Path(sys.argv[1]), clock=lambda: datetime.now(UTC))
    (line,) = (await store.due("d", Room(requests=1, lines=1, follow=1))).lines
    claim = Claim(destination="d", request=b"frozen \\x00 bytes", event_ids=(line.waiting[0].event_id,), step="",
                  deliveries=line.waiting)
    await store.claim([], [claim])
    os.kill(os.getpid(), signal.SIGKILL)  # the request may or may not have been sent

asyncio.run(main())
"""

DELIVER_FOR_EVER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from bridge.delivery import Claim, Policy, Room, settle
from bridge.model import Delivered
from bridge.storage.deliveries import DeliveryStore

def send(data: bytes) -> None:
    sys.stdout.buffer.write(data + b"\\n")
    sys.stdout.buffer.flush()

async def main() -> None:
    clock = lambda: datetime.now(UTC)
    store = DeliveryStore(Path(sys.argv[1]), clock=clock)
    await store.recover()
    print("ready", flush=True)
    while True:
        due = await store.due("d", Room(requests=4, lines=4, follow=1))
        if not due.frozen and not due.lines:
            break
        for frozen in due.frozen:
            await store.reclaim(frozen.id)
            send(frozen.request)
            await store.settle(settle(frozen.id, frozen.deliveries, frozen.told, [Delivered()], clock(), 0.0, Policy()))
        heads = [line.waiting[0] for line in due.lines]
        claims = [Claim(destination="d", request=each.event_id.encode(), event_ids=(each.event_id,), step="",
                        deliveries=(each,)) for each in heads]
        for number, each in zip(await store.claim([], claims), heads):
            send(each.event_id.encode())
            await store.settle(settle(number, [each], {}, [Delivered()], clock(), 0.0, Policy()))
    store.close()
    print("done", flush=True)

asyncio.run(main())
"""


def test_a_kill_between_claim_and_verdict_loses_nothing_and_keeps_the_bytes(
    tmp_path: Path, clock: Clock
) -> None:
    async def fill() -> None:
        with closing(DeliveryStore(tmp_path / "delivery.db", clock=clock)) as store:
            await store.take_in([row(1)])

    async def look() -> Any:
        with closing(DeliveryStore(tmp_path / "delivery.db", clock=clock)) as store:
            assert (await due(store)).frozen == ()  # it is still marked as under way
            assert await store.recover() == 1
            return (await due(store)).frozen

    asyncio.run(fill())
    with run_script(CLAIM_AND_DIE, tmp_path) as killed:
        assert killed.wait(30) == -signal.SIGKILL
    (frozen,) = asyncio.run(look())
    assert (frozen.request, frozen.event_ids) == (b"frozen \x00 bytes", ("i1-1",))
    assert frozen.deliveries[0].maybe_duplicate
    assert frozen.told[LineKey("default", "i1")].maybe


def test_however_often_it_is_killed_every_event_is_sent_in_order_under_one_id(
    tmp_path: Path, clock: Clock
) -> None:
    incidents, events = 12, 15
    rows = [row(n * incidents + i + 1, f"i{i}", n + 1) for n in range(events) for i in range(incidents)]

    async def fill() -> None:
        with closing(DeliveryStore(tmp_path / "delivery.db", clock=clock)) as store:
            await store.take_in(rows)

    asyncio.run(fill())
    sent: list[str] = []
    for kills in range(100):
        running = run_script(DELIVER_FOR_EVER, tmp_path)
        assert running.stdout is not None
        lines = iter(running.stdout.readline, b"")
        assert next(lines) == b"ready\n"
        for _, line in zip(range(17 + kills), lines, strict=False):
            sent.append(line.decode().strip())
        running.kill()
        sent += [line.decode().strip() for line in running.stdout.readlines() if line.endswith(b"\n")]
        running.wait(30)
        running.stdout.close()
        if sent[-1] == "done":
            break
    assert sent.pop() == "done"
    assert kills > 2
    assert set(sent) == {each.event_id for each in rows}
    for incident in range(incidents):
        firsts = [each for each in dict.fromkeys(sent) if each.startswith(f"i{incident}-")]
        assert firsts == [f"i{incident}-{seq}" for seq in range(1, events + 1)]


def run_script(script: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that works on the store in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder / "delivery.db")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )


# ---- group commit ------------------------------------------------------------------------------------------


async def test_writers_at_the_same_time_share_commits_and_each_gets_its_answer(store: DeliveryStore) -> None:
    commits = 0

    def counting(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    store._writer._connection.set_trace_callback(counting)
    answers = await asyncio.gather(*(store.take_in([row(n, f"i{n}")]) for n in range(1, 201)))
    assert answers == [frozenset({"d"})] * 200
    assert commits < 100
    assert store.counts("default")["waiting"] == 200


async def test_an_error_of_one_writer_is_its_own(store: DeliveryStore) -> None:
    def broken(_: Any) -> None:
        raise ValueError("a bug")

    results = await asyncio.gather(
        store.take_in([row(1)]),
        store._writer.do(broken),
        store.take_in([row(2, "i2")]),
        return_exceptions=True,
    )
    assert isinstance(results[1], ValueError)
    assert store.counts("default")["waiting"] == 2


async def test_a_write_that_sqlite_refuses_does_not_take_its_transaction_with_it(
    store: DeliveryStore,
) -> None:
    def refused(connection: Any) -> None:
        connection.execute("INSERT INTO lost (destination, count) VALUES ('d', 'no number')")

    results = await asyncio.gather(
        store.take_in([row(1)]),
        store._writer.do(refused),
        store.take_in([row(2, "i2")]),
        return_exceptions=True,
    )
    assert isinstance(results[1], StorageError)
    assert store.counts("default")["waiting"] == 2


async def test_a_full_disk_is_told_and_passes(store: DeliveryStore) -> None:
    await store.take_in([row(1)])
    connection = store._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    rows = [row(n, f"i{n}") for n in range(2, 500)]
    with pytest.raises(StoreFullError):
        await store.take_in(rows)
    assert (await store.cursor()).id == 1
    assert store.counts("default")["waiting"] == 1
    connection.execute("PRAGMA max_page_count = 1000000")
    await store.take_in(rows)
    assert store.counts("default")["waiting"] == 499


async def test_a_closed_store_says_so(tmp_path: Path, clock: Clock) -> None:
    store = DeliveryStore(tmp_path / "delivery.db", clock=clock)
    store.close()
    with pytest.raises(StorageError, match="closed"):
        await store.take_in([row(1)])


# ---- people ------------------------------------------------------------------------------------------------


async def test_the_list_is_paged_filtered_and_kept_to_one_tenant(store: DeliveryStore) -> None:
    await store.take_in([row(n, f"i{n}", destination="ab"[n % 2]) for n in range(1, 8)])
    await store.take_in([row(8, "i8", tenant="other")])
    pages, cursor = [], None
    while True:
        page = store.listed("default", limit=3, cursor=cursor)
        pages.append([each["incident"] for each in page.items])
        if (cursor := page.next) is None:
            break
    assert pages == [["i7", "i6", "i5"], ["i4", "i3", "i2"], ["i1"]]
    assert [each["incident"] for each in store.listed("default", destination="a").items] == ["i6", "i4", "i2"]
    assert store.listed("default", states=[S.DEAD, S.DROPPED]).items == ()
    assert len(store.listed("default", states=[S.WAITING], incident="i3").items) == 1
    assert [each["event_id"] for each in store.of_incident("other", "i8")] == ["i8-1"]
    assert store.of_incident("default", "i8") == []


async def test_a_tenant_is_told_of_destinations_that_it_has_deliveries_for(
    store: DeliveryStore,
) -> None:
    await store.adopt({"siem": "", "chat": ""})
    await store.take_in([row(1, destination="renamed"), row(2, "i2", tenant="other", destination="theirs")])
    assert store.destinations("default") == ("renamed",)
    assert store.destinations("other") == ("theirs",)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1; drop", "٣", "9" * 40])
def test_a_foreign_cursor_is_refused(store: DeliveryStore, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        store.listed("default", cursor=cursor)


@pytest.mark.parametrize("number", ["", "x", "0", "-1", "9" * 40, "1 or 1"])
async def test_an_id_that_is_none_retries_and_drops_nothing(store: DeliveryStore, number: str) -> None:
    await store.take_in([row(1)])
    assert not await store.retry("default", number)
    assert not await store.drop("default", number)


async def test_a_dead_letter_goes_again_in_its_line_even_when_the_line_was_forgotten(
    store: DeliveryStore, clock: Clock
) -> None:
    await store.take_in([row(1)])
    (head,) = await heads(store)
    await store.claim([replace(head, state=S.DEAD, reason="refused")], [])
    clock.forward(100 * 86400)
    await store.tidy(Retention(dead_s=1e9))
    assert await store.retry("default", str(store.listed("default").items[0]["id"]))
    (again,) = await heads(store)
    assert (again.state, again.attempts, again.created_at, again.asked_at) == (S.WAITING, 0, START, clock.now)


async def test_what_is_known_of_an_old_state_stands_before_all_of_a_new_one(store: DeliveryStore) -> None:
    await store.take_in([row(1), row(2, seq=2), row(3, seq=3), row(4, "i2")])
    (head, lone) = await heads(store)
    await answered(store, await claimed(store, head), [head], Delivered())
    await store.claim([replace(lone, state=S.DEAD, reason="refused")], [])
    for again in ("second", "third"):
        await store.rewind(again)
        await store.take_in([row(1, event_id=f"{again}-1"), row(2, seq=2, event_id=f"{again}-2")])
    (line,) = (await due(store)).lines
    assert [each.event_id for each in line.waiting] == [
        "i1-2", "i1-3", "second-1", "second-2", "third-1", "third-2",
    ]  # fmt: skip
    assert [each.seq > line.told.seq for each in line.waiting] == [True] * 6
    assert line.told.maybe
    assert [each["seq"] for each in store.of_incident("default", "i1")] == [1, 2, 3, 1, 2, 1, 2]
    # A dead letter is not taken for something that is told already, even when its line was forgotten.
    (dead,) = store.of_incident("default", "i2")
    for _ in store._writer._connection.execute("DELETE FROM line WHERE incident = 'i2' RETURNING 1"):
        pass
    assert await store.retry("default", str(dead["id"]))
    (found,) = [each for each in (await due(store)).lines if each.key.incident == "i2"]
    assert found.waiting[0].seq > found.told.seq


async def test_dead_letters_are_bounded_by_count_and_age_and_the_loss_is_counted(
    store: DeliveryStore, clock: Clock
) -> None:
    for number in range(1, 6):
        await store.take_in([row(number, f"i{number}")])
        (head,) = await heads(store)
        await store.claim([replace(head, state=S.DEAD, reason="refused")], [])
        clock.forward(10)
    assert (await store.tidy(Retention(max_dead=3))).lost == {"d": 2}
    assert [each["incident"] for each in store.listed("default").items] == ["i5", "i4", "i3"]
    assert (await store.tidy(Retention(dead_s=25))).lost == {"d": 1}
    assert await store.backlog() == {"d": Backlog(dead=2, lost=3)}


async def test_to_make_room_the_oldest_are_given_up_and_what_may_have_arrived_is_not(
    store: DeliveryStore,
) -> None:
    await store.take_in([row(n, f"i{n}", at=at(10 - n)) for n in range(1, 7)])
    (*_, frozen) = await heads(store)  # i6, the oldest
    assert frozen.incident == "i6"
    number = await claimed(store, frozen)
    await answered(store, number, [frozen], Retry(reason="503", after_s=99))
    given_up = await store.give_up("d", 3, "too many", Retention(max_dead=2))
    assert given_up == GivenUp(events=3, lost=1)
    assert {each["incident"]: each["state"] for each in store.listed("default").items} == {
        "i1": "waiting", "i2": "waiting", "i3": "dead", "i4": "dead", "i6": "waiting",
    }  # fmt: skip
    assert (await store.backlog())["d"].lost == 1
    assert [line.key.incident for line in (await due(store)).lines] == ["i1", "i2"]


async def test_who_has_most_waiting_makes_room_for_another_tenant(store: DeliveryStore) -> None:
    await store.take_in([row(1, "mine", tenant="quiet", at=at(-9))])
    await store.take_in([row(n, f"i{n}", tenant="loud", at=at(n)) for n in range(2, 9)])
    assert (await store.give_up("d", 3, "too many", Retention())).events == 3
    assert [each["state"] for each in store.listed("quiet").items] == ["waiting"]
    assert sorted(each["incident"] for each in store.listed("loud").items if each["state"] == "dead") == [
        "i2", "i3", "i4",
    ]  # fmt: skip


@pytest.mark.parametrize("urgent", [False, True])
async def test_one_tenants_backlog_does_not_delay_anothers_events(store: DeliveryStore, urgent: bool) -> None:
    await store.take_in(
        [
            row(n, f"loud{n:02}", tenant="loud", at=at(n - 50), not_before=at(n - 50), urgent=urgent)
            for n in range(1, 40)
        ]
    )
    await store.take_in([row(40 + n, f"quiet{n}", tenant="quiet", urgent=urgent, seq=1) for n in range(2)])
    assert await found(store, 4, 6) == ([], ["loud01", "quiet0", "loud02", "quiet1", "loud03", "loud04"])
    assert [(await found(store, 1, 1, turn=turn))[1] for turn in range(3)] == [
        ["loud01"],
        ["quiet0"],
        ["loud01"],
    ]
    assert await found(store, 1, 1, by_age=True) == ([], ["loud01"])


async def test_lines_that_are_crowded_are_found_the_fullest_first_due_or_not(store: DeliveryStore) -> None:
    await store.take_in(
        [row(1, "a", 1), row(2, "b", 1, not_before=at(99)), row(3, "b", 2, not_before=at(99))]
    )
    await store.take_in([row(n, "c", n, not_before=at(99)) for n in range(4, 7)])
    # A line whose first is under way is left alone: what comes of it decides about the others.
    await store.take_in([row(n, "held", n - 6) for n in range(7, 12)])
    (held,) = [each for each in await heads(store) if each.incident == "held"]
    await claimed(store, held)
    found = await store.crowded("d", 10)
    assert [(line.key.incident, len(line.waiting)) for line in found] == [("c", 3), ("b", 2)]
    assert [line.key.incident for line in await store.crowded("d", 1)] == ["c"]


async def test_what_is_remembered_of_an_open_page_is_kept_as_long_as_it_is_open(
    store: DeliveryStore, clock: Clock
) -> None:
    kinds = {"open": EventKind.UPDATED, "over": EventKind.CLOSED, "empty": EventKind.UPDATED}
    memories = {"open": {"open": "0"}, "over": {"ts": "1"}, "empty": {}}
    for number, (name, kind) in enumerate(kinds.items(), 1):
        await store.take_in([row(number, name, kind=kind)])
        (head,) = await heads(store)
        await answered(store, await claimed(store, head), [head], Delivered(memory=memories[name]))
    clock.forward(100 * 86400)
    await store.tidy(Retention())
    for number, name in enumerate(kinds, 11):
        await store.take_in([row(number, name, 2)])
    remembered = {line.key.incident: line.memory for line in (await due(store)).lines}
    assert remembered == {"open": {"open": "0"}, "over": None, "empty": None}


async def test_a_request_whose_attempt_broke_off_is_let_go_and_may_be_a_repeat(store: DeliveryStore) -> None:
    await store.take_in([row(1)])
    (head,) = await heads(store)
    number = await claimed(store, head)
    await store.unclaim(number, at(60))
    assert (await due(store)).next_at == at(60)
    store._clock.forward(60)  # type: ignore[attr-defined]
    (frozen,) = (await due(store)).frozen
    assert (frozen.id, frozen.deliveries[0].maybe_duplicate) == (number, True)


async def test_what_waits_is_never_tidied_away(store: DeliveryStore, clock: Clock) -> None:
    await store.take_in([row(1), row(2, "i2")])
    done, waiting = await heads(store)
    await store.claim([replace(done, state=S.DELIVERED)], [])
    clock.forward(1000 * 86400)
    assert (await store.tidy(Retention())).ended == 1
    assert [each.event_id for each in await heads(store)] == [waiting.event_id]
    assert (await store.backlog())["d"] == Backlog(waiting=1, oldest_at=START)


# ---- the outbox --------------------------------------------------------------------------------------------


def test_an_outbox_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    outbox = OutboxReader(tmp_path / "state.db")
    assert (outbox.read(0, 10), outbox.end(), outbox.event("x")) == ([], None, None)
    with closing(open_writer(tmp_path / "state.db")):
        assert (outbox.read(0, 10), outbox.end(), outbox.event("x")) == ([], None, None)
    outbox.close()


@pytest.mark.parametrize(
    ("body", "urgent"),
    [
        (b'{"kind":"opened","incident":{"id":"x","severity":"critical","episodes":[{"a":[1,2]}]}}', True),
        (b'{"incident":{"severity":"warning"}}', False),
        (b'{"incident":{}}', False),
        (b"{}", False),
        (b"no json", False),
    ],
)
def test_an_event_is_urgent_when_its_incident_is_critical(
    tmp_path: Path, body: bytes, *, urgent: bool
) -> None:
    make_outbox(tmp_path / "state.db", "i1")
    with closing(open_writer(tmp_path / "state.db")) as state:
        state.execute("UPDATE event SET body = ?", (body,))
    with closing(OutboxReader(tmp_path / "state.db")) as outbox:
        assert [each.urgent for each in outbox.read(0, 10)] == [urgent]


def test_a_file_that_took_the_place_of_another_is_read(tmp_path: Path) -> None:
    outbox = OutboxReader(tmp_path / "state.db")
    for name in ("first", "second"):
        make_outbox(tmp_path / f"{name}.db", name)
        (tmp_path / f"{name}.db").replace(tmp_path / "state.db")
        assert [each.incident for each in outbox.read(0, 10)] == [name]
    assert outbox.event("second-1") == b"{}"
    assert outbox.end() == OutboxPlace(outbox="second", id=1)
    assert outbox.read(1, 10) == []
    outbox.close()


def make_outbox(path: Path, incident: str) -> None:
    """Write a state with one event, in a file that can be moved."""
    with closing(open_writer(path)) as state:
        state.execute("PRAGMA journal_mode = DELETE")
        state.execute(
            "CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, tenant, destination, event_id, incident,"
            " seq, kind, at, not_before)"
        )
        state.execute("CREATE TABLE outbox_identity (id)")
        state.execute("INSERT INTO outbox_identity VALUES (?)", (incident,))
        state.execute("CREATE TABLE event (event_id, body)")
        state.execute(
            "INSERT INTO outbox VALUES (1, 'default', 'd', ?, ?, 1, 'opened', 0, 0)",
            (f"{incident}-1", incident),
        )
        state.execute("INSERT INTO event VALUES (?, ?)", (f"{incident}-1", b"{}"))


def test_something_that_is_no_database_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match=r"state\.db"):
        OutboxReader(tmp_path / "state.db").read(0, 1)


# ---- erasing -----------------------------------------------------------------------------------------------


async def test_what_is_frozen_is_rendered_anew_and_what_is_under_way_is_waited_for(
    store: DeliveryStore, clock: Clock, tmp_path: Path
) -> None:
    await store.take_in([row(1), row(2, "i2"), row(3, "i3", tenant="other")])
    first, second, third = await heads(store)
    frozen = await claimed(store, first, request=b"of anna-pc")
    await answered(store, frozen, [first], Retry(reason="anna-pc is refused", after_s=60, maybe_sent=True))
    under_way = await claimed(store, second, request=b"of anna-pc")
    theirs = await claimed(store, third, request=b"theirs")
    through = await store.newest_request()

    def masked(text: str) -> str:
        return text.replace("anna-pc", "[erased]")

    assert await store.erase("default", through, masked) == 1
    clock.forward(60)
    assert [each.id for each in (await due(store)).frozen] == []
    assert [each.event_id for each in await heads(store)] == ["i1-1"]
    shown = {each["incident"]: each["reason"] for each in store.listed("default").items}
    assert shown == {"i1": "[erased] is refused", "i2": ""}
    await answered(store, under_way, [second], Retry(reason="busy", after_s=60))
    newer = await claimed(store, *(await heads(store)), request=b"of nobody")
    assert await store.erase("default", through, masked) == 0
    assert await store.write_anew()
    assert b"anna-pc" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert await store.reclaim(theirs) is False, "another tenant's is under way as before"
    assert newer > through


async def test_a_file_that_is_written_anew_takes_what_comes_meanwhile(store: DeliveryStore) -> None:
    jobs = [asyncio.ensure_future(store.take_in([row(number, f"i{number}")])) for number in range(1, 20)]
    anew = asyncio.ensure_future(store.write_anew())
    jobs += [asyncio.ensure_future(store.take_in([row(number, f"i{number}")])) for number in range(20, 40)]
    await asyncio.gather(anew, *jobs)
    assert store.counts("default")["waiting"] == 39
