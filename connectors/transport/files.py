"""The file sender: append, fsync, answer; in a thread, one file at a time.

Rules: a line counts only after fsync. A last line without an end is what a crash or a full disk tore: a new
line is begun before anything else is written. A file that was moved away (logrotate) is opened anew.

Decision: nothing is cut off the file again after a failed write, although that would leave no torn line:
beside a rotation that truncates it would cut, or extend, what somebody else has made of the file.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from typing_extensions import override

from bridge.ports import Append, Appended, Request, Response, Sender, Unreached

MODE = 0o640


class FileSender(Sender):
    """Sends `Append` requests."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}  # path -> file descriptor
        self._turns: dict[str, asyncio.Lock] = {}

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Append):
            return Unreached(reason="not lines for a file", maybe_sent=False, kind="local")
        turn, began = self._turns.setdefault(request.path, asyncio.Lock()), False
        try:
            async with asyncio.timeout(timeout_s):
                await turn.acquire()
                began = True
                # A thread cannot be stopped: what began keeps its turn, or two would write at once.
                return await asyncio.shield(self._write(request, turn))
        except TimeoutError:
            reason = f"{request.path} was not written within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=began, kind="timeout")

    async def _write(self, request: Append, turn: asyncio.Lock) -> Response:
        try:
            await asyncio.to_thread(self._append, request.path, request.lines)
        except (OSError, ValueError) as error:
            self._forget(request.path)
            reason = f"{request.path}: {getattr(error, 'strerror', None) or error}"
            return Unreached(reason=reason, maybe_sent=True, kind="local")
        else:
            return Appended()
        finally:
            turn.release()

    def _append(self, path: str, lines: bytes) -> None:
        descriptor = self._descriptor(path)
        if lines and _is_torn(descriptor):
            lines = b"\n" + lines
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)

    def _descriptor(self, path: str) -> int:
        descriptor = self._open.get(path)
        if descriptor is not None and _is_still(descriptor, path):
            return descriptor
        self._forget(path)
        is_new = not Path(path).exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        self._open[path] = descriptor
        if is_new:
            _sync_directory(Path(path).parent)
        return descriptor

    def _forget(self, path: str) -> None:
        descriptor = self._open.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)

    @override
    async def close(self) -> None:
        for path in tuple(self._open):
            async with self._turns.setdefault(path, asyncio.Lock()):
                self._forget(path)


def _is_still(descriptor: int, path: str) -> bool:
    try:
        there = Path(path).stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _sync_directory(path: Path) -> None:
    # Without this a new file can be missing after a crash although its content was fsynced.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
