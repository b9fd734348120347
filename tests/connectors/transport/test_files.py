"""The file sender: nothing is overwritten, torn lines stay alone, faults are values."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.ports import Append, Appended, Http, Unreached
from connectors.transport.files import FileSender

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def sender():
    sender = FileSender()
    yield sender
    await sender.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "incidents.jsonl"


async def write(sender: FileSender, path, lines: bytes, timeout_s: float = 10):
    return await sender.send(Append(path=str(path), lines=lines), timeout_s=timeout_s)


async def test_lines_are_appended_in_order(sender, path):
    path.write_bytes(b"old\n")

    assert await write(sender, path, b"one\ntwo\n") == Appended()
    assert await write(sender, path, b"three\n") == Appended()
    assert path.read_bytes() == b"old\none\ntwo\nthree\n"


async def test_a_line_torn_by_a_crash_is_left_alone_and_a_new_one_begun(sender, path):
    path.write_bytes(b'one\n{"torn": ')

    await write(sender, path, b"two\n")

    assert path.read_bytes() == b'one\n{"torn": \ntwo\n'


async def test_a_file_that_was_rotated_away_is_opened_anew(sender, path):
    await write(sender, path, b"one\n")
    path.rename(path.with_suffix(".1"))

    await write(sender, path, b"two\n")

    assert path.read_bytes() == b"two\n"
    assert path.with_suffix(".1").read_bytes() == b"one\n"


async def test_a_file_that_was_copied_and_truncated_goes_on_at_its_start(sender, path):
    await write(sender, path, b"one\n")
    os.truncate(path, 0)

    await write(sender, path, b"two\n")

    assert path.read_bytes() == b"two\n"


async def test_directories_that_are_missing_are_made_for_the_owner_and_the_group(sender, tmp_path):
    path = tmp_path / "not" / "there" / "file"

    assert await write(sender, path, b"one\n") == Appended()
    assert path.read_bytes() == b"one\n"
    assert [each.stat().st_mode & 0o777 for each in (path.parent, path.parent.parent)] == [0o750, 0o750]


async def test_a_directory_that_cannot_be_made_is_said_with_the_path(sender, tmp_path):
    (tmp_path / "file").write_bytes(b"")

    response = await write(sender, tmp_path / "file" / "inside", b"one\n")

    assert isinstance(response, Unreached)
    assert response.kind == "local"
    assert "file/inside: Not a directory" in response.reason


@pytest.mark.parametrize("name", ["", "nul\x00"])
async def test_a_path_that_can_never_be_a_file_is_a_local_fault(sender, tmp_path, name):
    response = await write(sender, tmp_path / name, b"one\n")

    assert isinstance(response, Unreached)
    assert response.kind == "local"


async def test_a_full_disk_is_a_local_fault_and_the_next_line_is_whole(sender, path):
    """RLIMIT_FSIZE stands for the full disk: the write is cut at the limit and then fails."""
    await write(sender, path, b"one\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        response = await write(sender, path, b"two two two\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert isinstance(response, Unreached)
    assert (response.kind, response.maybe_sent) == ("local", True)
    assert await write(sender, path, b"three\n") == Appended()
    assert path.read_bytes() == b"one\ntwo tw\nthree\n"


async def test_many_at_once_tear_no_line(sender, path):
    lines = [b"%d " % number * 2000 + b"\n" for number in range(20)]

    async with asyncio.TaskGroup() as group:
        for line in lines:
            group.create_task(write(sender, path, line))

    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(lines)


async def test_a_file_that_hangs_is_given_up_in_time_and_nothing_is_written_beside_it(sender, tmp_path):
    """A pipe that nobody reads hangs, as a dead network file system does."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines = b"x" * 200_000 + b"\n"  # more than a pipe takes

    first = await write(sender, pipe, lines, timeout_s=0.1)
    second = await write(sender, pipe, lines, timeout_s=0.1)

    assert (first.kind, first.maybe_sent) == ("timeout", True)
    assert (second.kind, second.maybe_sent) == ("timeout", False)

    with pipe.open("rb") as reader:  # lets the thread end
        await asyncio.to_thread(reader.read, len(lines))


async def test_a_file_that_hangs_holds_up_neither_the_others_nor_the_end(sender, tmp_path):
    pipe, lines = tmp_path / "pipe", b"x" * 200_000 + b"\n"
    os.mkfifo(pipe)
    for _ in range(40):  # more than any executor has threads
        await write(sender, pipe, lines, timeout_s=0.01)

    assert await write(sender, tmp_path / "well", b"one\n", timeout_s=5) == Appended()

    async with asyncio.timeout(5):
        await sender.close()
    with pipe.open("rb") as reader:  # lets the thread end
        await asyncio.to_thread(reader.read, len(lines))


HANG_AND_END = """
import asyncio, sys
from bridge.ports import Append
from connectors.transport.files import FileSender

async def main():
    sender = FileSender()
    await sender.send(Append(path=sys.argv[1], lines=b"x" * 200_000), timeout_s=0.1)
    await sender.close()

asyncio.run(main())
"""


def test_a_file_that_hangs_does_not_keep_the_process_from_ending(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with subprocess.Popen([sys.executable, "-c", HANG_AND_END, str(pipe)], cwd=ROOT) as process:
        try:
            assert process.wait(20) == 0
        finally:
            process.kill()


async def test_an_empty_append_creates_the_file_and_writes_nothing(sender, path):
    assert await write(sender, path, b"") == Appended()
    assert path.read_bytes() == b""


async def test_what_is_not_for_a_file_is_refused(sender):
    response = await sender.send(Http(method="GET", url="http://x/", headers={}, body=b""), timeout_s=1)

    assert isinstance(response, Unreached)
