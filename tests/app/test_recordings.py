"""Reading recordings: every form of a line, every fault with its place, several files in one order."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from timeline import START, alert, stamp, webhook

from bridge.app.recordings import Recorded, Survey, merged, survey, understand
from bridge.errors import StorageError
from bridge.model import RowKind

GOOD = webhook([alert({"alertname": "A"}), alert({"alertname": "B"})])


def line(at: datetime = START, body: bytes = GOOD, **more: Any) -> bytes:
    return json.dumps({"received_at": stamp(at), "body": json.loads(body), **more}).encode() + b"\n"


def surveyed(path: Path | str, spool: Path) -> Survey:
    return survey(str(path), tenant="default", spool=spool, progress=lambda _: None)


def rows(paths: Iterable[Path], spool: Path) -> list[Recorded]:
    return list(merged([surveyed(path, spool) for path in paths], tenant="default", spool=spool))


def understood(raw: bytes) -> Recorded:
    found = understand(raw, tenant="default")
    assert isinstance(found, Recorded), found
    return found


def test_a_line_says_when_by_whom_and_what() -> None:
    found = understood(line(START, source="am-1", tenant="shop"))
    assert (found.received_at, found.source, found.tenant) == (START, "am-1", "shop")
    assert (found.kind, found.alerts) == (RowKind.WEBHOOK, 2)
    assert json.loads(found.body) == json.loads(GOOD)


def test_a_line_without_source_and_tenant_takes_the_defaults() -> None:
    found = understand(line(), tenant="mine")
    assert isinstance(found, Recorded)
    assert (found.source, found.tenant) == ("default", "mine")


def test_a_time_with_another_zone_is_the_same_moment() -> None:
    found = understood(b'{"received_at": "2026-01-05T05:00:00.000001+02:00", "body": {"alerts": []}}')
    assert found.received_at == START + timedelta(microseconds=1)
    assert found.received_at.tzinfo is UTC


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_that_leads_out_of_the_calendar_is_a_bad_line(at: str) -> None:
    found = understand(b'{"received_at": "%s", "body": {"alerts": []}}' % at.encode(), tenant="default")
    assert found == "received_at is not in the years 1970 to 9000"


def test_a_control_line_is_taken_as_it_is() -> None:
    found = understood(
        b'{"received_at":"2026-01-05T03:00:00Z","tenant":"","kind":"mode","body":{"model_free":true}}'
    )
    assert (found.kind, found.tenant, found.body, found.alerts) == (
        RowKind.MODE,
        "",
        b'{"model_free":true}',
        0,
    )


def test_a_bare_webhook_is_taken_at_its_newest_time() -> None:
    ended = START + timedelta(minutes=7)
    body = webhook([alert({"alertname": "A"}, ends=ended), alert({"alertname": "B"}, starts=START)])
    assert understood(body).received_at == ended
    assert understood(GOOD).received_at == START, "the year 1 of a firing alert is no time"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[1]", "not a line"),
        (b"7", "not a line"),
        (b"{}", "neither"),
        (b'{"received_at": "2026-01-05T03:00:00Z"}', "neither"),
        (b'{"body": {"alerts": []}}', "received_at"),
        (b'{"received_at": "today", "body": {"alerts": []}}', "received_at"),
        (b'{"received_at": 7, "body": {"alerts": []}}', "received_at"),
        (b'{"received_at": "2026-01-05T03:00:00", "body": {"alerts": []}}', "time zone"),
        (b'{"received_at": "2026-01-05T03:00:00Z", "body": {}}', "never be good"),
        (b'{"received_at": "2026-01-05T03:00:00Z", "body": 7}', "never be good"),
        (b'{"received_at": "2026-01-05T03:00:00Z", "kind": "what", "body": {"alerts": []}}', "kind"),
        (b'{"received_at": "2026-01-05T03:00:00Z", "source": 7, "body": {"alerts": []}}', "source"),
        (b'{"alerts": []}', "no time"),
        (b'{"alerts": [{"labels": 7}]}', "no time"),
        (b'{"alerts": ' + b"[" * 9000 + b"]" * 9000 + b"}", ""),
    ],
)
def test_a_line_that_cannot_be_used_says_why(raw: bytes, reason: str) -> None:
    found = understand(raw, tenant="default")
    assert isinstance(found, str)
    assert reason in found


@given(st.binary() | st.text().map(str.encode) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["received_at", "body", "alerts", "kind", "tenant", "source", "x"]), inner)
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_line_is_more_than_a_sentence_of_trouble(raw: bytes) -> None:
    assert isinstance(understand(raw, tenant="default"), Recorded | str)


def test_every_fault_is_told_with_its_line_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line() + b"nonsense\n\n" + line() + b'{"alerts": []}')
    found = surveyed(path, tmp_path)
    assert [(each.file, each.line) for each in found.bad] == [(str(path), 2), (str(path), 5)]
    assert found.bad[0].text.startswith(f"{path}:2: not JSON")
    assert (found.lines, found.webhooks, found.alerts) == (2, 2, 4)
    assert len(rows([path], tmp_path)) == 2


def test_packed_files_are_unpacked_by_what_they_are_and_not_by_their_name(tmp_path: Path) -> None:
    packed = zstandard.ZstdCompressor().compress
    contents = {
        "plain": line(),
        "a.gz": gzip.compress(line()),
        "b.zst": packed(line()),
        "two-frames.zst": packed(line()) + packed(line()),
        "no-suffix": gzip.compress(line()),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    counts = {name: surveyed(tmp_path / name, tmp_path).lines for name in contents}
    assert counts == dict.fromkeys(contents, 1) | {"two-frames.zst": 2}


@pytest.mark.parametrize(
    "cut", [gzip.compress(line() * 50)[:-30], zstandard.ZstdCompressor().compress(line() * 50)[:-30]]
)
def test_a_file_that_was_cut_short_is_not_half_a_recording(tmp_path: Path, cut: bytes) -> None:
    path = tmp_path / "cut"
    path.write_bytes(cut)
    with pytest.raises(StorageError, match="cut"):
        surveyed(path, tmp_path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        surveyed(tmp_path / "none.jsonl", tmp_path)


def test_one_webhook_over_many_lines_is_one_line_of_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "pretty.json"
    path.write_text(json.dumps(json.loads(GOOD), indent=2))
    assert surveyed(path, tmp_path).alerts == 2
    path.write_bytes(line() + line())
    assert surveyed(path, tmp_path).lines == 2


def test_standard_input_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(line() + line()))))
    found = surveyed("-", tmp_path)
    assert found.lines == 2
    assert len(list(merged([found], tenant="default", spool=tmp_path))) == 2


def numbered(number: int, at: datetime) -> bytes:
    return line(at, webhook([alert({"alertname": f"N{number}"}, starts=at)]))


def name_in(found: Recorded) -> str:
    return str(json.loads(found.body)["alerts"][0]["labels"]["alertname"])


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=4))
def test_files_merge_by_time_then_file_then_line(times: list[list[int]]) -> None:
    import tempfile  # noqa: PLC0415 - hypothesis shares one tmp_path among all examples

    with tempfile.TemporaryDirectory() as folder:
        paths, expected = [], []
        for file, offsets in enumerate(times):
            path = Path(folder) / f"{file}.jsonl"
            lines = []
            for place, offset in enumerate(offsets):
                number = file * 10 + place
                lines.append(numbered(number, START + timedelta(seconds=offset)))
                expected.append((offset, file, place, f"N{number}"))
            path.write_bytes(b"".join(lines))
            paths.append(path)
        assert [name_in(found) for found in rows(paths, Path(folder))] == [
            name for *_, name in sorted(expected)
        ]


def test_a_file_out_of_order_is_known_to_be(tmp_path: Path) -> None:
    path = tmp_path / "back.jsonl"
    path.write_bytes(line(START + timedelta(seconds=1)) + b"bad\n" + line(START))
    found = surveyed(path, tmp_path)
    assert not found.in_order
    assert (found.first_at, found.last_at) == (START, START + timedelta(seconds=1))
    assert [each.received_at for each in rows([path], tmp_path)] == [found.first_at, found.last_at]
