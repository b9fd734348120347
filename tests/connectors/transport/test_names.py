"""Looking names up: one at a time, in time, and nobody waits for the dead."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tenacity

from bridge.ports import Append, Appended, Http, Unreached
from connectors.transport.files import FileSender
from connectors.transport.http import HttpSender
from connectors.transport.names import Names

ROOT = Path(__file__).parents[3]
FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]


class Server:
    """A name server that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = threading.Event()

    def look_up(self, host, _port, **_):
        self.asked.append(host)
        if host.startswith("dead"):
            assert self.answers.wait(30)
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return FOUND


@pytest.fixture
def server():
    made = Server()
    yield made
    made.answers.set()


async def test_a_name_is_found_or_said_not_to_exist(server):
    names = Names(server.look_up)

    assert await names.addresses("well.example.com", 80) == FOUND
    with pytest.raises(socket.gaierror, match="not known"):
        await names.addresses("nowhere.invalid", 80)


async def test_while_a_name_hangs_it_is_not_asked_for_again_and_others_are_found(server):
    names = Names(server.look_up, within_s=0.05)

    for _ in range(5):
        with pytest.raises(OSError, match=r"dead\.example\.com cannot be looked up in time"):
            await names.addresses("dead.example.com", 80)
    assert await names.addresses("well.example.com", 80) == FOUND
    assert server.asked == ["dead.example.com", "well.example.com"]

    # The late answer serves whoever asks then; the next question is a new one.
    names._within_s = 10
    async with asyncio.TaskGroup() as group:
        late = group.create_task(names.addresses("dead.example.com", 80))
        await asyncio.sleep(0)
        server.answers.set()
    assert late.result() == FOUND
    await names.addresses("dead.example.com", 80)
    assert server.asked.count("dead.example.com") == 2


async def test_dead_names_keep_no_file_and_no_other_name_waiting(server, tmp_path):
    names = Names(server.look_up, within_s=0.2)
    http, files = HttpSender(wait=tenacity.wait_none(), names=names), FileSender()
    request = Http(method="POST", url="http://dead.example.com/", headers={}, body=b"{}")
    async with asyncio.TaskGroup() as group:
        dead = [group.create_task(http.send(request, timeout_s=5)) for _ in range(50)]
        await asyncio.sleep(0)
        written = await files.send(Append(path=str(tmp_path / "file"), lines=b"x\n"), timeout_s=5)
        assert await names.addresses("well.example.com", 80) == FOUND
    await http.close()
    await files.close()

    assert written == Appended()
    responses = [each.result() for each in dead]
    assert all(isinstance(each, Unreached) for each in responses)
    assert {(each.kind, each.maybe_sent) for each in responses} == {("connect", False)}
    assert server.asked.count("dead.example.com") < 50


HANG_AND_END = """
import asyncio, threading
from connectors.transport.names import Names

async def main():
    try:
        await Names(lambda *_, **__: threading.Event().wait(), within_s=0.05).addresses("dead", 80)
    except OSError:
        pass

asyncio.run(main())
"""


def test_a_name_that_hangs_does_not_keep_the_process_from_ending():
    with subprocess.Popen([sys.executable, "-c", HANG_AND_END], cwd=ROOT) as process:
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()
