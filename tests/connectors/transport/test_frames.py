"""The frames sender against fakes that misbehave; real rsyslog is in test_rsyslog.py."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import tenacity
from servers import free_port

from bridge.ports import Append, Frames, FramesResponse, Unreached
from connectors.transport.frames import FramesSender
from connectors.transport.names import Names


@pytest.fixture
async def sender():
    sender = FramesSender(wait=tenacity.wait_none())
    yield sender
    await sender.close()


@asynccontextmanager
async def listening(serve):
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def frames(address: str, *texts: bytes, transport: str = "tcp", **changes) -> Frames:
    return Frames(**({"address": address, "transport": transport, "frames": texts} | changes))


async def read_counted(reader: asyncio.StreamReader) -> bytes:
    """Return the next message of an octet-counted stream (RFC 6587)."""
    size = int(await reader.readuntil(b" "))
    return await reader.readexactly(size)


class Relp:
    """A fake RELP receiver; `answers` are given to `syslog` in turn, then 200."""

    def __init__(self, *answers: bytes, opening: bytes = b"200 OK\nrelp_version=0\ncommands=syslog") -> None:
        self.answers, self.opening = list(answers), opening
        self.taken: list[bytes] = []
        self.sessions = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        try:
            while True:
                number, command, size = [await self._word(reader) for _ in range(3)]
                data = (await reader.readexactly(int(size) + 1))[:-1] if int(size) else b""
                answer = self._answer(command, data)
                if answer == b"hang":
                    continue
                if answer == b"break":
                    break
                raw = answer if answer.startswith(b"raw") else None
                writer.write(
                    raw or b"%b rsp %d%b\n" % (number, len(answer), b" " + answer if answer else b"")
                )
                await writer.drain()
                if command == b"close":
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def _answer(self, command: bytes, data: bytes) -> bytes:
        if command == b"open":
            assert b"relp_version=0" in data
            return self.opening
        if command == b"close":
            return b""
        answer = self.answers.pop(0) if self.answers else b"200 OK"
        if answer.startswith(b"200"):
            self.taken.append(data)
        return answer

    @staticmethod
    async def _word(reader: asyncio.StreamReader) -> bytes:
        word = b""
        while (each := await reader.readexactly(1)) not in {b" ", b"\n"}:
            word += each
        return word


async def test_octet_counting_carries_any_bytes_over_one_kept_connection(sender):
    taken: asyncio.Queue[bytes] = asyncio.Queue()
    connections = 0

    async def serve(reader, writer):
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                await taken.put(await read_counted(reader))
        writer.close()

    async with listening(serve) as address:
        assert await sender.send(frames(address, b"one\ntwo", b""), timeout_s=5) == FramesResponse(accepted=2)
        assert await sender.send(frames(address, "drei 🔥".encode()), timeout_s=5) == FramesResponse(
            accepted=1
        )
        got = [await asyncio.wait_for(taken.get(), 5) for _ in range(3)]
        await sender.close()

    assert got == [b"one\ntwo", b"", "drei 🔥".encode()]
    assert connections == 1


async def test_a_connection_that_the_receiver_closed_is_opened_anew(sender):
    closed = asyncio.Event()
    taken: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader, writer):
        await taken.put(await read_counted(reader))
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with listening(serve) as address:
        for text in (b"one", b"two"):
            assert await sender.send(frames(address, text), timeout_s=5) == FramesResponse(accepted=1)
            await asyncio.wait_for(closed.wait(), 5)
            closed.clear()

    assert [taken.get_nowait(), taken.get_nowait()] == [b"one", b"two"]


@pytest.mark.parametrize("transport", ["tcp", "tls", "relp", "relp+tls"])
async def test_nobody_there_means_that_nothing_was_sent(sender, transport):
    response = await sender.send(frames(f"127.0.0.1:{free_port()}", b"x", transport=transport), timeout_s=5)

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("connect", False)


async def test_a_receiver_that_speaks_no_tls_is_a_tls_fault(sender):
    async def serve(_reader, writer):
        writer.write(b"hello, this is plain text\n")
        await writer.drain()
        writer.close()

    async with listening(serve) as address:
        response = await sender.send(frames(address, b"x", transport="tls"), timeout_s=5)

    assert isinstance(response, Unreached)
    assert response.kind == "tls"


async def test_a_certificate_file_that_is_missing_is_a_local_fault(sender, tmp_path):
    request = frames("127.0.0.1:1", b"x", transport="tls", ca_file=str(tmp_path / "none"))

    response = await sender.send(request, timeout_s=5)

    assert isinstance(response, Unreached)
    assert response.kind == "local"


@pytest.mark.parametrize("transport", ["tcp", "relp"])
async def test_a_receiver_that_said_something_before_it_closed_is_noticed(sender, transport):
    """A banner, or RELP's own hint: with bytes left to read the end of the stream is not seen by itself."""
    closed = asyncio.Event()
    sessions = 0

    async def serve(reader, writer):
        nonlocal sessions
        sessions += 1
        if transport == "tcp":
            await read_counted(reader)
        else:
            for answer in (b"1 rsp 6 200 OK\n", b"2 rsp 6 200 OK\n"):
                await reader.read(4096)
                writer.write(answer)
        writer.write(b"0 serverclose 0\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with listening(serve) as address:
        assert await sender.send(frames(address, b"a", transport=transport), timeout_s=5) == FramesResponse(
            accepted=1
        )
        await asyncio.wait_for(closed.wait(), 5)
        await asyncio.sleep(0.05)  # the kernel brings the end over
        again = await sender.send(frames(address, b"b", transport=transport), timeout_s=5)

    assert again == FramesResponse(accepted=1)
    assert sessions == 2


async def test_a_receiver_that_only_said_something_is_kept(sender):
    sessions = 0

    async def serve(reader, writer):
        nonlocal sessions
        sessions += 1
        writer.write(b"welcome")
        with suppress(asyncio.IncompleteReadError):
            while True:
                await read_counted(reader)
        writer.close()

    async with listening(serve) as address:
        for _ in range(3):
            assert await sender.send(frames(address, b"a"), timeout_s=5) == FramesResponse(accepted=1)
        await sender.close()

    assert sessions == 1


async def test_the_next_address_of_a_name_is_tried_when_the_first_refuses(sender):
    taken = asyncio.Event()

    async def serve(reader, writer):
        await read_counted(reader)
        taken.set()
        writer.close()

    async with listening(serve) as address:
        port = int(address.rpartition(":")[2])

        def look_up(host, port, **_):
            assert host == "siem.example.com"
            return [(2, 1, 6, "", ("127.0.0.2", port)), (2, 1, 6, "", ("127.0.0.1", port))]

        sender = FramesSender(wait=tenacity.wait_none(), names=Names(look_up))
        response = await sender.send(frames(f"siem.example.com:{port}", b"a"), timeout_s=5)
        await asyncio.wait_for(taken.wait(), 5)
        await sender.close()

    assert response == FramesResponse(accepted=1)


async def test_an_address_that_keeps_silent_does_not_keep_the_others_from_being_tried(sender, monkeypatch):
    """A firewall that swallows what is sent there; the time for a connection would be over before the next."""
    connect = asyncio.get_running_loop().sock_connect

    async def swallowing(sock, address):
        if address[0] == "127.0.0.2":
            await asyncio.Event().wait()
        await connect(sock, address)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", swallowing)

    async def serve(reader, writer):
        await read_counted(reader)
        writer.close()

    async with listening(serve) as address:
        port = int(address.rpartition(":")[2])
        names = Names(lambda *_, **__: [(2, 1, 6, "", (f"127.0.0.{last}", port)) for last in (2, 1)])
        sender = FramesSender(wait=tenacity.wait_none(), names=names)
        response = await sender.send(frames(f"siem.example.com:{port}", b"a"), timeout_s=3)
        await sender.close()

    assert response == FramesResponse(accepted=1)


async def test_relp_counts_what_was_acknowledged(sender):
    receiver = Relp()
    async with listening(receiver.serve) as address:
        for _ in range(3):
            response = await sender.send(frames(address, b"a", b"b\nc", transport="relp"), timeout_s=5)
            assert response == FramesResponse(accepted=2)
        await sender.close()

    assert receiver.taken == [b"a", b"b\nc"] * 3
    assert receiver.sessions == 1


async def test_relp_tells_which_message_was_refused_and_keeps_the_session(sender):
    receiver = Relp(b"200 OK", b"500 too long")
    async with listening(receiver.serve) as address:
        response = await sender.send(frames(address, b"a", b"b", b"c", transport="relp"), timeout_s=5)
        again = await sender.send(frames(address, b"c", transport="relp"), timeout_s=5)
        await sender.close()

    assert response == FramesResponse(accepted=1, refused="RELP 500 too long", answered=True)
    assert again == FramesResponse(accepted=1)
    assert receiver.sessions == 1


async def test_relp_that_breaks_after_a_refusal_still_tells_it(sender):
    relp = Relp(b"500 the disk is full", b"break")
    async with listening(relp.serve) as address:
        response = await sender.send(frames(address, b"a", b"b", transport="relp"), timeout_s=5)
        again = await sender.send(frames(address, b"a", transport="relp"), timeout_s=5)

    assert response == FramesResponse(accepted=0, refused="RELP 500 the disk is full", answered=True)
    assert again == FramesResponse(accepted=1)
    assert relp.sessions == 2


async def test_relp_that_breaks_in_the_middle_says_how_many_are_safe(sender):
    receiver = Relp(b"200 OK", b"200 OK", b"break")
    async with listening(receiver.serve) as address:
        response = await sender.send(frames(address, b"a", b"b", b"c", b"d", transport="relp"), timeout_s=5)

    assert isinstance(response, FramesResponse)
    assert (response.accepted, response.answered) == (2, False)
    assert response.refused


@pytest.mark.parametrize(
    "answer", [b"break", b"raw nonsense nonsense\n", b"raw 99999999999999999999999999999999999 9"]
)
async def test_relp_that_breaks_at_once_may_have_taken_it(sender, answer):
    receiver = Relp(answer)
    async with listening(receiver.serve) as address:
        response = await sender.send(frames(address, b"a", transport="relp"), timeout_s=5)
        again = await sender.send(frames(address, b"a", transport="relp"), timeout_s=5)
        await sender.close()

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("reset", True)
    assert again == FramesResponse(accepted=1)
    assert receiver.sessions == 2


async def test_relp_without_an_answer_is_given_up_in_time(sender):
    receiver = Relp(b"hang")
    async with listening(receiver.serve) as address:
        response = await sender.send(frames(address, b"a", transport="relp"), timeout_s=0.2)

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("timeout", True)


async def test_a_session_that_is_refused_sent_nothing(sender):
    receiver = Relp(opening=b"500 no")
    async with listening(receiver.serve) as address:
        response = await sender.send(frames(address, b"a", transport="relp"), timeout_s=5)

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("connect", False)
    assert "500 no" in response.reason
    assert receiver.taken == []


async def test_receivers_that_say_no_farewell_do_not_hold_up_the_end(sender):
    """RELP ends with a question of its own; five that do not answer cost no more than one."""
    receivers = [Relp() for _ in range(5)]
    for each in receivers:
        each._answer = lambda command, data, it=each: (  # type: ignore[method-assign]
            b"hang" if command == b"close" else Relp._answer(it, command, data)
        )
    async with AsyncExitStack() as stack:
        for each in receivers:
            address = await stack.enter_async_context(listening(each.serve))
            await sender.send(frames(address, b"a", transport="relp"), timeout_s=5)
        async with asyncio.timeout(3):
            await sender.close()


async def test_no_frames_only_connect(sender):
    receiver = Relp()
    async with listening(receiver.serve) as address:
        assert await sender.send(frames(address, transport="relp"), timeout_s=5) == FramesResponse(accepted=0)
        await sender.close()

    assert receiver.sessions == 1


async def test_what_is_not_frames_is_refused(sender):
    assert isinstance(await sender.send(Append(path="x", lines=b""), timeout_s=1), Unreached)
