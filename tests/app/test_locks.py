"""One writer per directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.app.locks import Lock
from bridge.errors import StorageError

HOLD = """
import sys, pathlib
from bridge.app.locks import Lock
Lock(pathlib.Path(sys.argv[1])).take(wait_s=0)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_told_who_has_it(tmp_path: Path):
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.take(wait_s=0)
    with pytest.raises(
        StorageError, match=f"process {os.getpid()} works on the data directory {tmp_path} .*--data"
    ):
        second.take(wait_s=0)
    first.release()
    second.take(wait_s=0)
    second.release()


def test_the_kernel_gives_back_what_a_killed_process_held(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        waits = []
        lock = Lock(tmp_path / "lock")

        def meanwhile() -> None:
            if not waits:
                holder.kill()
            waits.append(1)

        lock.take(wait_s=10, meanwhile=meanwhile)
        assert waits
        lock.release()


def test_a_directory_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(StorageError, match="cannot open lock"):
        Lock(tmp_path / "nowhere" / "lock").take(wait_s=0)
