"""The server below the door: who waits too long, who is too many, and what never gets as far as the door."""

from __future__ import annotations

import asyncio

import pytest
from bodies import alert, body
from doors import JSON, LARGE_BYTES, URL, Door, status_line

from bridge.intake.serving import HEAD_S, PAGE_PROTECTION, PROTECTION, TAKE_BYTES, TAKE_S

HEAD = f"POST {URL} HTTP/1.1\nHost: x\nContent-Length: 2"


async def opened(door: Door, sent: bytes = b""):
    """Open a connection that sends no more than `sent`."""
    before = door.connections
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(sent)
    while door.connections == before:
        await asyncio.sleep(0)
    return reader, writer


async def kept_alive(door: Door):
    """Open a connection, send a request, have its answer, and wait."""
    reader, writer = await door.raw(HEAD, b"{}")
    assert await status_line(reader) == b"HTTP/1.1 400 Bad Request"
    while (await reader.readline()).strip():
        continue
    await reader.readexactly(
        len(b'{"error":"not an Alertmanager webhook: Object missing required field `alerts`"}')
    )
    return reader, writer


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), 10) == b""
    except ConnectionResetError:  # what it had sent was not read to the end
        return True


@pytest.mark.parametrize("sent", [b"", b"POST /v1/alertmanager HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b"])
async def test_who_never_sends_the_head_of_a_request_is_closed(doors, sent):
    door = await doors()
    reader, writer = await opened(door, sent)
    assert door.runner.sweep(1000.0, 100).headless == 0
    assert door.runner.sweep(1000.0 + HEAD_S - 0.1, 100).headless == 0
    found = door.runner.sweep(1000.0 + HEAD_S, 100)
    assert (found.headless, found.waiting) == (1, 0)
    assert await is_closed(reader)
    writer.close()


async def test_a_connection_that_is_kept_alive_may_wait_for_the_next_request(doors):
    door = await doors()
    _, writer = await kept_alive(door)
    for at in (0.0, HEAD_S, 3600.0):
        found = door.runner.sweep(at, 100)
        assert (found.open, found.waiting, found.idle, found.headless) == (1, 1, 0, 0)
    writer.close()


async def test_of_too_many_idle_connections_the_oldest_go_first(doors):
    door = await doors()
    kept = []
    for at in range(4):
        kept.append(await kept_alive(door))
        door.runner.sweep(float(at), 100)
    assert door.runner.sweep(4.0, 2).idle == 2
    assert [await is_closed(reader) for reader, _ in kept[:2]] == [True, True]
    kept[2][1].write(HEAD.replace("\n", "\r\n").encode() + b"\r\n\r\n{}")
    assert await status_line(kept[2][0]) == b"HTTP/1.1 400 Bad Request"
    for _, writer in kept:
        writer.close()


async def test_a_request_begins_the_wait_anew_and_who_has_just_come_is_left_alone(doors):
    door = await doors()
    _, early = await kept_alive(door)
    door.runner.sweep(0.0, 100)
    _, late = await opened(door)
    found = door.runner.sweep(60.0, 0)
    assert (found.idle, found.waiting) == (1, 1)  # the early one; the other is about to send
    early.close()
    late.close()


async def test_who_is_being_answered_does_not_count_as_waiting(doors):
    door = await doors()
    door.inbox.open.clear()
    answer = asyncio.Task(door.post(body(alert())))
    while not door.intake.budget.held_bytes:
        await asyncio.sleep(0)
    door.runner.sweep(0.0, 0)
    found = door.runner.sweep(60.0, 0)
    assert (found.open, found.waiting, found.idle) == (1, 0, 0)
    door.inbox.open.set()
    assert (await answer)[0] == 200


async def stopped(door: Door):
    """Ask for much and take nothing of it."""
    reader, writer = await door.raw("GET /large HTTP/1.1\nHost: x")
    while not any(each.is_stopped for each in door.runner.server.connections):
        await asyncio.sleep(0)
    return reader, writer


async def test_who_takes_nothing_of_an_answer_is_cut_off(doors):
    door = await doors()
    reader, writer = await stopped(door)
    assert [door.runner.sweep(at, 100).slow for at in (0.0, TAKE_S - 0.1)] == [0, 0]
    assert door.runner.sweep(TAKE_S, 100).slow == 1
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(LARGE_BYTES), 10)
    while door.connections:
        await asyncio.sleep(0)
    assert door.runner.sweep(TAKE_S + 1.0, 100).slow == 0
    writer.close()


async def test_who_takes_some_of_an_answer_has_its_time_anew(doors):
    door = await doors()
    reader, writer = await stopped(door)
    [connection] = door.runner.server.connections
    for at in (0.0, TAKE_S, 2 * TAKE_S):
        assert door.runner.sweep(at, 100).slow == 0
        before = connection.waits_bytes
        while before - connection.waits_bytes < TAKE_BYTES:
            await asyncio.wait_for(reader.read(1 << 16), 10)
            await asyncio.sleep(0)
    assert [door.runner.sweep(at * TAKE_S, 100).slow for at in (3, 4)] == [0, 1]
    writer.close()


async def test_of_one_peer_come_no_more_than_its_share_and_of_all_no_more_than_there_may_be(doors):
    door = await doors(most=4)
    kept = [await opened(door) for _ in range(3)]
    refused = [await asyncio.open_connection("127.0.0.1", door.port)]
    assert await is_closed(refused[0][0])
    other = [
        await asyncio.open_connection("127.0.0.1", door.port, local_addr=("127.0.0.2", 0)) for _ in range(2)
    ]
    assert await is_closed(other[1][0])
    assert door.connections == 4
    assert (door.runner.sweep(0.0, 100).crowded, door.runner.sweep(0.0, 100).crowded) == (2, 0)
    kept[0][1].close()
    while door.connections == 4:
        await asyncio.sleep(0)
    again = await kept_alive(door)
    for _, writer in [*kept, *refused, *other, again]:
        writer.close()


async def test_what_is_no_http_is_told_so_without_its_own_bytes(doors):
    door = await doors()
    reader, writer = await opened(
        door, b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: <script>\r\nContent-Length: 2\r\n\r\n"
    )
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    assert answer.startswith("HTTP/1.0 400 Bad Request")
    assert "script" not in answer
    assert all(f"{name}: {value}" in answer for name, value in (PROTECTION | PAGE_PROTECTION).items())
    assert "application/problem+json" in answer
    writer.close()


@pytest.mark.parametrize(
    ("method", "path", "reasons"),
    [
        ("POST", "/alertmanager", {"path": 1}),
        ("POST", f"{URL}/", {"path": 1}),
        ("POST", f"{URL}/a/b", {"path": 1}),
        ("GET", "/favicon.ico", {}),  # nobody who sends webhooks
        ("GET", URL, {"method": 1}),
        ("PUT", URL, {"method": 1}),
    ],
)
async def test_what_nobody_answers_is_counted(doors, method, path, reasons):
    door = await doors()
    async with door.client.request(method, path, data=body(alert()), headers=JSON) as answer:
        assert answer.status in {404, 405}
    assert door.meter.reasons == reasons


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",  # TLS on a plain port
        b"hello\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX-A: " + b"y" * 9000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_counted(doors, sent):
    door = await doors()
    reader, writer = await opened(door, sent)
    assert await status_line(reader) == b"HTTP/1.0 400 Bad Request"
    writer.close()
    assert door.meter.reasons == {"malformed": 1}
