"""The file sender: append, fsync, answer; one daemon thread per file.

Rules: a line counts only after fsync. A last line without an end is what a crash or a full disk tore: a new
line is begun before anything else is written. A file that was moved away (logrotate) is opened anew. Directories
that are missing are made, for the owner and the group only.

Decision: nothing is cut off the file again after a failed write, although that would leave no torn line:
beside a rotation that truncates it would cut, or extend, what somebody else has made of the file.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

from typing_extensions import override

from bridge.ports import Append, Appended, Request, Response, Sender, Unreached
from connectors.transport.workers import Worker

MODE, DIRECTORY_MODE = 0o640, 0o750


class FileSender(Sender):
    """Sends `Append` requests. Use and close it in one event loop."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Append):
            return Unreached(reason="not lines for a file", maybe_sent=False, kind="local")
        file = self._files.setdefault(request.path, _File(request.path))
        began = False
        try:
            async with asyncio.timeout(timeout_s):
                await file.turn.acquire()
                began = True
                # A thread cannot be stopped: what began keeps its turn, or two would write at once.
                return await asyncio.shield(_written(file, request))
        except TimeoutError:
            reason = f"{request.path} was not written within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=began, kind="timeout")

    @override
    async def close(self) -> None:
        files, self._files = list(self._files.values()), {}
        await asyncio.gather(*(file.close() for file in files))


async def _written(file: _File, request: Append) -> Response:
    try:
        await file.do(partial(file.append, request.lines))
    except (OSError, ValueError) as error:
        reason = f"{request.path}: {getattr(error, 'strerror', None) or error}"
        return Unreached(reason=reason, maybe_sent=True, kind="local")
    else:
        return Appended()
    finally:
        file.turn.release()


class _File(Worker):
    """One file and the thread that touches it."""

    def __init__(self, path: str) -> None:
        super().__init__("file")
        self._path = path
        self._descriptor: int | None = None

    async def close(self) -> None:
        """Close the file when its last write is done, and end the thread; wait a moment for both."""
        await self.end(self._forget)

    # ---- in the thread -----------------------------------------------------------------------------------

    def append(self, lines: bytes) -> None:
        """Append and fsync; after a fault the file is opened anew.

        Raises:
            OSError, ValueError: it cannot be written, or is no file.
        """
        try:
            descriptor = self._opened()
            if lines and _is_torn(descriptor):
                lines = b"\n" + lines
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except (OSError, ValueError):
            self._forget()
            raise

    def _opened(self) -> int:
        if self._descriptor is not None and _is_still(self._descriptor, self._path):
            return self._descriptor
        self._forget()
        make_directories(Path(self._path).parent)
        is_new = not Path(self._path).exists()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        if is_new:
            sync_directory(Path(self._path).parent)
        return self._descriptor

    def _forget(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def make_directories(path: Path) -> None:
    """Make what is missing of a path, for the owner and the group, so that it is there after a crash."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        sync_directory(each.parent)


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


def sync_directory(path: Path) -> None:
    """Fsync a directory."""
    # Without this a new file can be missing after a crash although its content was fsynced.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
