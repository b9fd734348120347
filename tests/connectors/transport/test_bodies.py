"""Bodies that are made at the last moment: a Parquet file of JSON lines, and what happens when there can be none."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from bridge.ports import Http, HttpResponse, Unreached
from connectors.transport.bodies import Bodies
from connectors.transport.http import HttpSender

LINES = Http(
    method="PUT", url="http://127.0.0.1:9/x", headers={"content-type": "application/vnd.apache.parquet"},
    body=b'{"a":1,"b":{"c":["x"]}}\n{"b":{}}\n', shape='{"a":"INTEGER","b":{"c":["VARCHAR"]}}',
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
async def bodies() -> AsyncIterator[Bodies]:
    made = Bodies()
    yield made
    await made.close()


def rows(body: bytes, folder: Path) -> list[tuple]:
    path = folder / "read.parquet"
    path.write_bytes(body)
    with duckdb.connect(":memory:") as reader:
        found = reader.sql(f"from '{path}'").fetchall()
    path.unlink()
    return found


async def test_lines_become_rows_and_nothing_else_of_the_request_changes(bodies, folder):
    made = await bodies.made(LINES, timeout_s=20)

    assert isinstance(made, Http)
    assert rows(made.body, folder) == [(1, {"c": ["x"]}), (None, {"c": None})]
    assert replace(made, body=LINES.body, shape=LINES.shape) == LINES


async def test_the_same_lines_make_the_same_file_and_none_is_left(bodies, folder):
    made = [await bodies.made(LINES, timeout_s=20) for _ in range(2)]

    assert made[0] == made[1]
    assert list(folder.iterdir()) == []


async def test_requests_at_once_get_each_its_own_file(bodies, folder):
    asked = [replace(LINES, body=b'{"a":%d}\n' % number) for number in range(8)]

    made = await asyncio.gather(*(bodies.made(each, timeout_s=20) for each in asked))

    assert [rows(each.body, folder)[0][0] for each in made] == list(range(8))


async def test_the_sender_sends_the_file(folder):
    got: list[bytes] = []

    async def put(request: web.Request) -> web.Response:
        got.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_put("/x", put)
    sender = HttpSender()
    async with TestServer(app) as server:
        response = await sender.send(replace(LINES, url=str(server.make_url("/x"))), timeout_s=20)
        await sender.close()

    assert isinstance(response, HttpResponse)
    assert len(rows(got[0], folder)) == 2


async def test_without_the_library_nothing_is_sent_and_it_is_named(bodies, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)

    assert await bodies.made(LINES, timeout_s=20) == Unreached(
        reason='Parquet needs more: pip install "tocsin[lake]"', maybe_sent=False, kind="local"
    )


async def test_lines_that_are_none_are_a_local_fault_without_a_word_of_them(bodies):
    made = await bodies.made(replace(LINES, body=b'{"secret'), timeout_s=20)

    assert isinstance(made, Unreached)
    assert (made.kind, made.maybe_sent) == ("local", False)
    assert "secret" not in made.reason
    assert isinstance(await bodies.made(LINES, timeout_s=20), Http)


async def test_a_folder_that_takes_no_files_is_named_and_the_next_try_may_pass(bodies, folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "none"))
    assert await bodies.made(LINES, timeout_s=20) == Unreached(
        reason="no Parquet file could be made: No such file or directory", maybe_sent=False, kind="local"
    )

    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert isinstance(await bodies.made(LINES, timeout_s=20), Http)


async def test_what_takes_too_long_was_not_sent_and_keeps_its_turn(bodies):
    await bodies.made(LINES, timeout_s=20)  # the library is there

    made = await bodies.made(replace(LINES, body=LINES.body * 20_000), timeout_s=0.001)

    assert isinstance(made, Unreached)
    assert (made.kind, made.maybe_sent) == ("timeout", False)
    assert isinstance(await bodies.made(LINES, timeout_s=20), Http)
