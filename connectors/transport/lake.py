"""The Parquet sender: rows become a file under a name of its own, by DuckDB; one daemon thread per folder.

Rules: a file is written beside its name, fsynced and then renamed, so that whoever reads the folder meanwhile sees
all of it or nothing; the same rows under the same name leave the same file. What a crash leaves begins with a dot,
which no `*.parquet` means, and is written over by the next try. The library is loaded with the first rows.

Decision: DuckDB rather than pyarrow, a third of its size; in memory, with one thread and without extensions that it
would fetch from elsewhere.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import override

from bridge.ports import Appended, Request, Response, Sender, Table, Unreached
from connectors.transport.files import MODE, make_directories, sync_directory
from connectors.transport.workers import Worker

MEMORY = "512MB"
#: What the engine wants beside the longest line, at least.
ROOM_BYTES = 64


class TableSender(Sender):
    """Sends `Table` requests. Use and close it in one event loop."""

    def __init__(self) -> None:
        self._folders: dict[str, _Folder] = {}

    @override
    async def send(self, request: Request, *, timeout_s: float) -> Response:
        if not isinstance(request, Table):
            return Unreached(reason="not rows for a file", maybe_sent=False, kind="local")
        folder = self._folders.setdefault(request.path, _Folder())
        began = False
        try:
            async with asyncio.timeout(timeout_s):
                await folder.turn.acquire()
                began = True
                # A thread cannot be stopped: what began keeps its turn, or two would write at once.
                return await asyncio.shield(_written(folder, request))
        except TimeoutError:
            reason = f"{request.path} was not written within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=began, kind="timeout")

    @override
    async def close(self) -> None:
        folders, self._folders = list(self._folders.values()), {}
        await asyncio.gather(*(each.end(each.forget) for each in folders))


async def _written(folder: _Folder, request: Table) -> Response:
    try:
        import duckdb  # noqa: PLC0415 - 60 MB that nobody needs who has no such destination

        try:
            await folder.do(partial(folder.write, request))
        except (OSError, ValueError, duckdb.Error) as error:
            reason = f"{request.path}: {getattr(error, 'strerror', None) or error}"
            return Unreached(reason=reason, maybe_sent=True, kind="local")
        return Appended()
    except ImportError:
        reason = 'Parquet needs more: pip install "tocsin[lake]"'
        return Unreached(reason=reason, maybe_sent=False, kind="local")
    finally:
        folder.turn.release()


class _Folder(Worker):
    """One folder and the thread that writes to it."""

    def __init__(self) -> None:
        super().__init__("lake")
        self._engine: Any = None

    # ---- in the thread -----------------------------------------------------------------------------------

    def write(self, request: Table) -> None:
        """Write the file; without rows only make sure of the folder.

        Raises:
            OSError, ValueError, duckdb.Error: It cannot be written.
        """
        if not request.name:
            make_directories(Path(request.path))
            if not os.access(request.path, os.W_OK | os.X_OK):
                raise PermissionError(f"{request.path} cannot be written to")
            return
        path = Path(request.path) / request.name
        make_directories(path.parent)
        unfinished = path.parent / f".{path.name}.unfinished"
        if self._engine is None:
            self._engine = opened()
        rows = self._engine.sql(
            "select unnest(from_json($1::json, $2)) as each",
            params=[request.rows.decode(), f"[{request.shape}]"],
        )
        rows.select("unnest(each)").write_parquet(str(unfinished), compression="zstd")
        unfinished.chmod(MODE)
        _sync(unfinished)
        unfinished.replace(path)
        sync_directory(path.parent)

    def forget(self) -> None:
        """Let go of the engine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


def opened() -> Any:
    """Return an engine of one's own. Close it in the thread that uses it."""
    import duckdb  # noqa: PLC0415 - 60 MB that nobody needs who has no such destination

    return duckdb.connect(
        ":memory:",
        config={
            "threads": 1, "memory_limit": MEMORY, "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )  # fmt: skip


def write_lines(engine: Any, lines: Path, shape: str, path: Path) -> None:
    """Write a file of JSON lines as one Parquet file, compressed with zstd; see `ports.Table` for `shape`.

    What is not in a row is NULL, what is in no column is left out. The same lines leave the same bytes. Takes about
    three bytes of memory for each of the lines.

    Raises:
        OSError, ValueError, duckdb.Error: It cannot be written.
    """
    with lines.open("rb") as file:
        longest = max(map(len, file), default=0)
    rows = engine.sql(
        "select unnest(from_json(json, $3)) from read_ndjson_objects($1, maximum_object_size = $2)",
        params=[str(lines), longest + ROOM_BYTES, shape],
    )
    rows.write_parquet(str(path), compression="zstd")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
