"""Who calls whom, as the configured Prometheus servers say: asked every few minutes, told to the inbox if it is news.

Rules: read-only, bounded in time and bytes, and never in anybody's way: a server that is not there, is slow or talks
nonsense is a line in the log and a count, and what was known of it stays. What the state holds is where a front begins,
so that a restart at night forgets no edge. A tenant whose servers were taken out of the configuration loses what they
knew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import urlsplit

import aiohttp
import msgspec

from bridge.analysis import service_graph
from bridge.analysis.service_graph import Seen
from bridge.analysis.topology import Chart
from bridge.app import prometheus
from bridge.model import OWN_SOURCE, RowKind
from bridge.telemetry import Telemetry

logger = logging.getLogger(__name__)

_NONE = Chart(origin="prometheus")


class ServiceGraphs:
    """The service graphs of one front's tenants."""

    def __init__(
        self,
        *,
        put: Callable[[str, str, RowKind, bytes], Awaitable[int]],
        servers: Callable[[], Sequence[tuple[str, str]]],
        stored: Callable[[], Mapping[str, Chart]],
        telemetry: Telemetry,
        clock: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            put: Appends a row to the inbox.
            servers: Tenant and address of each Prometheus that is configured now.
            stored: What the state holds of earlier imports, by tenant; blocks.
            telemetry: Where it is counted.
            clock: Seconds of a steady clock.
        """
        self._put = put
        self._servers = servers
        self._stored = stored
        self._telemetry = telemetry
        self._clock = clock
        self._told: dict[str, Chart] | None = None  # by tenant, once the state was asked
        self._seen: dict[str, Seen] = {}
        self._why: dict[str, str] = {}  # what is wrong with a server, by its address

    def tell_anew(self) -> None:
        """Tell all of it at the next look, to a state that is begun anew."""
        if self._told is not None:
            self._told = dict.fromkeys(self._told, _NONE)

    async def look(self) -> None:
        """Ask every server once, and tell what is news.

        Raises:
            StorageError: The state cannot be read, or the inbox takes nothing; it is told at the next look.
        """
        servers = self._servers()
        if self._told is None:
            self._told = dict(await asyncio.to_thread(self._stored))
            self._seen = {
                name: service_graph.seen_in(chart, self._clock()) for name, chart in self._told.items()
            }
        for tenant in sorted({*self._told, *(tenant for tenant, _ in servers)}):
            urls = [url for owner, url in servers if owner == tenant]
            await self._tell(tenant, await self._known(tenant, urls) if urls else _NONE)
        edges = sum(len(chart.calls) for chart in self._told.values())
        self._telemetry.set("tocsin_service_graph_edges", edges)

    async def _known(self, tenant: str, urls: Sequence[str]) -> Chart:
        """Return what a tenant's servers have said of late."""
        async with prometheus.session() as session:
            answers = await asyncio.gather(*(self._ask(session, url) for url in urls))
        heard = [series for series in answers if series is not None]
        before = self._seen.get(tenant, Seen())
        if heard:
            pairs = await asyncio.to_thread(
                lambda: [pair for each in heard for pair in service_graph.pairs_of(each)]
            )
            before = self._seen[tenant] = service_graph.renewed(before, pairs, self._clock())
        return service_graph.chart_of(before)

    async def _ask(self, session: aiohttp.ClientSession, url: str) -> list[dict[str, str]] | None:
        """Return the series that one server knows; None if it does not answer as it should."""
        try:
            found = [await _series(session, url, query) for query in service_graph.QUERIES]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reason = prometheus.reason_of(error)
            self._telemetry.add("tocsin_service_graph_polls_total", result="failed")
            if self._why.get(url) != reason:  # once, not every few minutes
                logger.warning(
                    "A Prometheus cannot be asked who calls whom: %s.",
                    reason,
                    extra={"event": "service_graph_unread", "host": urlsplit(url).hostname},
                )
            self._why[url] = reason
            return None
        self._why.pop(url, None)
        self._telemetry.add("tocsin_service_graph_polls_total", result="done")
        return [labels for series in found for labels in series]

    async def _tell(self, tenant: str, chart: Chart) -> None:
        told = self._told if self._told is not None else {}
        if chart != told.get(tenant, _NONE):
            await self._put(tenant, OWN_SOURCE, RowKind.TOPOLOGY, msgspec.json.encode(chart))
            told[tenant] = chart
        if chart == _NONE:
            told.pop(tenant, None)


async def _series(session: aiohttp.ClientSession, url: str, query: str) -> list[dict[str, str]]:
    """Return the labels of the series that a query finds.

    Raises:
        ValueError: The answer is not one, or too large.
        ClientError: There is none.
    """
    body = await prometheus.answer_of(session, url, "/api/v1/query", {"query": query})
    return await asyncio.to_thread(service_graph.series_of, body)
