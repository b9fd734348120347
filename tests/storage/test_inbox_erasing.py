"""Erasing in the inbox: what is meant leaves its row, numbers and times stay, and the row that asks goes last."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import timeline
from erased import FINGERPRINTS, LABEL, LAPTOP, NAME, OTHER, found_in
from inboxes import HOOK, rows

from bridge.analysis.erasing import Erase, Eraser, sealed
from bridge.analysis.topology import Chart, Service
from bridge.model import RowKind
from bridge.storage.inbox import EraseRow, InboxWriter
from bridge.webhooks.alertmanager import fingerprint_of

BY_LABEL = Erase(id="era-1", label=LABEL)
BOTH = timeline.webhook([timeline.alert(LAPTOP), timeline.alert(OTHER)])
REJECTED = {"reason": "no JSON", "body_base64": base64.b64encode(f"<{NAME}>".encode()).decode()}


async def asked(writer: InboxWriter, what: Erase = BY_LABEL, tenant: str = "t") -> EraseRow:
    await writer.put(tenant, "", RowKind.ERASE, msgspec.json.encode(what))
    return (await writer.erasing())[-1]


async def erased(writer: InboxWriter, row: EraseRow, what: Erase = BY_LABEL) -> int:
    return await writer.erase(row, Eraser(what, row.received_at, fingerprint_of=fingerprint_of))


async def test_an_alert_leaves_its_webhook_and_the_others_stay(opened: Any, path: Path) -> None:
    writer: InboxWriter = opened()
    await writer.put("t", "s", HOOK, BOTH)
    await writer.put("t", "s", HOOK, timeline.webhook([timeline.alert(LAPTOP)]))
    await writer.put("t", "s", RowKind.REJECTED, json.dumps(REJECTED).encode())
    await writer.put("t", "s", HOOK, b'{"alerts": [' + NAME.encode())
    before = [(row.id, row.received_at) for row in rows(path)]
    assert await erased(writer, await asked(writer)) == 4
    first, second, third, fourth, asks = rows(path)
    assert [alert["labels"] for alert in json.loads(first.body)["alerts"]] == [OTHER]
    assert json.loads(second.body)["alerts"] == []
    assert [(row.kind, row.body) for row in (third, fourth)] == [(RowKind.CLOCK, b"")] * 2
    assert [(row.id, row.received_at) for row in (first, second, third, fourth)] == before
    assert asks.kind is RowKind.ERASE


async def test_what_came_later_and_what_is_anothers_is_not_looked_at(opened: Any, path: Path) -> None:
    writer: InboxWriter = opened()
    await writer.put("other", "s", HOOK, BOTH)
    row = await asked(writer)
    await writer.put("t", "s", HOOK, BOTH)
    assert await erased(writer, row) == 0
    assert [each.body for each in rows(path) if each.kind is HOOK] == [BOTH, BOTH]


async def test_an_alert_whose_sender_gave_no_fingerprint_is_found_by_it(opened: Any, path: Path) -> None:
    writer: InboxWriter = opened()
    await writer.put("t", "s", HOOK, BOTH)
    what = Erase(id="era-1", fingerprint=FINGERPRINTS[0])
    assert await erased(writer, await asked(writer, what), what) == 1
    assert [alert["labels"] for alert in json.loads(rows(path)[0].body)["alerts"]] == [OTHER]


async def test_of_a_tenant_only_what_its_configuration_says_stays(opened: Any, path: Path) -> None:
    writer: InboxWriter = opened()
    charts = [Chart(origin=origin, services=(Service(name="shop"),)) for origin in ("file", "prometheus")]
    for chart in charts:
        await writer.put("t", "", RowKind.TOPOLOGY, msgspec.json.encode(chart))
    await writer.put("t", "s", HOOK, BOTH)
    what = Erase(id="era-1")
    assert await erased(writer, await asked(writer, what), what) == 2
    assert [row.kind for row in rows(path)] == [RowKind.TOPOLOGY, RowKind.CLOCK, RowKind.CLOCK, RowKind.ERASE]


async def test_the_row_that_asks_outlives_retention_until_it_is_done(opened: Any, path: Path) -> None:
    writer: InboxWriter = opened()
    await writer.put("t", "s", HOOK, BOTH)
    row = await asked(writer)
    newest = await writer.put("t", "s", HOOK, b"{}")
    assert await writer.delete_through(newest, 1 << 60) == 1
    assert [each.id for each in await writer.erasing()] == [row.id]
    await writer.seal_erase(row.id, msgspec.json.encode(sealed(BY_LABEL)))
    assert await writer.write_anew()
    assert found_in(path.parent, NAME) == []
    await writer.clear_erase(row.id)
    assert await writer.erasing() == ()
    assert [(each.id, each.kind) for each in rows(path)] == [(row.id, RowKind.CLOCK), (newest, HOOK)]
    assert await writer.put("t", "s", HOOK, b"{}") == newest + 1, "numbers go on"


@pytest.mark.parametrize("body", [b"x", b"7", b'{"labels": 7}', b"[[[[]]]]", b'{"origin": "file"'])
async def test_a_body_of_any_kind_is_left_as_it_is_if_nothing_is_in_it(
    opened: Any, path: Path, body: bytes
) -> None:
    writer: InboxWriter = opened()
    for kind in (HOOK, RowKind.FOUND, RowKind.TOPOLOGY, RowKind.REJECTED, RowKind.FEEDBACK):
        await writer.put("t", "s", kind, body)
    assert await erased(writer, await asked(writer)) == 0
    assert {row.body for row in rows(path) if row.kind is not RowKind.ERASE} == {body}
