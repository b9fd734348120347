"""The file sender: append, fsync, answer; one daemon thread per file.

Rules: a line counts only after fsync. A last line without an end is what a crash or a full disk tore: a new
line is begun before anything else is written. A file that was moved away (logrotate) is opened anew. Directories
that are missing are made, for the owner and the group only.

Decision: nothing is cut off the file again after a failed write, although that would leave no torn line:
beside a rotation that truncates it would cut, or extend, what somebody else has made of the file.

Decision: threads of our own rather than an executor's. A file on a dead server or a frozen file system hangs in
the kernel, where nobody can end it. In a shared executor it would take a place from every other file, and the
interpreter waits for an executor's threads when it ends, which then would be never.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from typing_extensions import override

from bridge.ports import Append, Appended, Request, Response, Sender, Unreached

MODE, DIRECTORY_MODE = 0o640, 0o750
CLOSE_S = 1.0  # how long the end waits for one file; what hangs is left to the kernel

Work = Callable[[], None]


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


class _File:
    """One file and the thread that touches it."""

    def __init__(self, path: str) -> None:
        self.turn = asyncio.Lock()
        self._path = path
        self._descriptor: int | None = None
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, work: Work) -> None:
        """Do `work` in the thread; raise what it raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Exception | None] = loop.create_future()

        def asked() -> None:
            error: Exception | None = None
            try:
                work()
            except (OSError, ValueError) as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(error))

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="file", daemon=True)
            self._thread.start()
        self._asked.put(asked)
        error = await done
        if error is not None:
            raise error

    async def close(self) -> None:
        """Close the file when its last write is done, and end the thread; wait a moment for both."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S), self.turn:
                if self._thread is not None:
                    await self.do(self._forget)
        self._asked.put(None)

    def _run(self) -> None:
        while (work := self._asked.get()) is not None:
            work()

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
        _make_directories(Path(self._path).parent)
        is_new = not Path(self._path).exists()
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
        if is_new:
            _sync_directory(Path(self._path).parent)
        return self._descriptor

    def _forget(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _make_directories(path: Path) -> None:
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        _sync_directory(each.parent)


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
