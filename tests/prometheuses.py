"""A real Prometheus that scrapes what a test makes up."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from servers import free_port, require_server

PATIENCE_S = 40.0


@contextlib.asynccontextmanager
async def scraping(folder: Path, metrics: Callable[[int], str]) -> AsyncIterator[str]:
    """Run a Prometheus and give its address; `metrics(n)` is what its n-th scrape finds, five a second."""
    program = require_server("prometheus")
    scrapes = 0

    async def answer(_request: web.Request) -> web.Response:
        nonlocal scrapes
        scrapes += 1
        return web.Response(text=metrics(scrapes))

    application = web.Application()
    application.router.add_get("/metrics", answer)
    async with TestServer(application) as scraped:
        config = folder / "prometheus.yml"
        config.write_text(
            "scrape_configs: [{job_name: mesh, scrape_interval: 200ms, scrape_timeout: 200ms,"
            f" static_configs: [{{targets: ['127.0.0.1:{scraped.port}']}}]}}]"
        )
        url = f"http://127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [program, f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address={url.removeprefix('http://')}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield url
        finally:
            process.terminate()
            process.wait(10)


async def answering(url: str, query: str) -> None:
    """Wait until a query finds something."""
    deadline = time.monotonic() + PATIENCE_S
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            try:
                async with session.get(f"{url}/api/v1/query", params={"query": query}) as answer:
                    if '"metric"' in await answer.text():
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError(f"Prometheus never found {query}")
