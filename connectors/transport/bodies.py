"""Bodies that are made at the last moment: the JSON lines of an `Http` request become a Parquet file (`Http.shape`).

Rules: what is stored of a request is its lines, so that it is the same bytes whichever engine reads them later; the
same lines make the same file as long as the engine is the same. DuckDB writes files only: they are in the folder for
temporary files, and removed at once. One daemon thread makes them, one at a time; the library is loaded with the
first of them.
"""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bridge.ports import Http, Unreached
from connectors.transport.lake import opened, write_lines
from connectors.transport.workers import Worker


class Bodies:
    """Makes bodies. Use and close it in one event loop."""

    def __init__(self) -> None:
        self._bench = _Bench()

    async def made(self, request: Http, *, timeout_s: float) -> Http | Unreached:
        """Return the request with the file as its body; `Unreached` of kind "local" where none can be made."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._bench.turn.acquire()
                # A thread cannot be stopped: what began keeps its turn.
                return await asyncio.shield(self._made(request))
        except TimeoutError:
            reason = f"no Parquet file was made within {timeout_s:g} s"
            return Unreached(reason=reason, maybe_sent=False, kind="timeout")

    async def _made(self, request: Http) -> Http | Unreached:
        bench, files = self._bench, list[bytes]()
        try:
            await bench.do(partial(bench.make, request, files))
        except ImportError:
            reason = 'Parquet needs more: pip install "tocsin[lake]"'
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        except Exception as error:  # noqa: BLE001 - whatever the engine has against it, nothing was sent
            reason = (
                f"no Parquet file could be made: {getattr(error, 'strerror', None) or type(error).__name__}"
            )
            return Unreached(reason=reason, maybe_sent=False, kind="local")
        finally:
            bench.turn.release()
        return msgspec.structs.replace(request, body=files[0], shape="")

    async def close(self) -> None:
        """Let go of the engine and end the thread."""
        bench, self._bench = self._bench, _Bench()
        await bench.end(bench.forget)


class _Bench(Worker):
    """The thread, and the engine that it uses."""

    def __init__(self) -> None:
        super().__init__("bodies")
        self._engine: Any = None

    # ---- in the thread -----------------------------------------------------------------------------------

    def make(self, request: Http, files: list[bytes]) -> None:
        """Add the file to `files`.

        Raises:
            ImportError: The extra is not installed.
            OSError, ValueError, duckdb.Error: It cannot be made.
        """
        if self._engine is None:
            self._engine = opened()
        with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
            lines, path = Path(folder) / "body.jsonl", Path(folder) / "body.parquet"
            lines.write_bytes(request.body)
            write_lines(self._engine, lines, request.shape, path)
            files.append(path.read_bytes())

    def forget(self) -> None:
        """Let go of the engine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
