"""The server below the door: who waits too long, who is too many, and what never gets as far as the door."""

from __future__ import annotations

import asyncio

import pytest
from bodies import alert, body
from doors import JSON, URL, Door, status_line

from bridge.intake.serving import HEAD_S

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
