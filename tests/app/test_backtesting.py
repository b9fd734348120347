"""`tocsin backtest`: one line for each origin, and a sentence for whatever cannot be used."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from events import HOUR_S, announced, chance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.app.events_file import read_events
from bridge.cli import tocsin
from bridge.errors import RefusedError


def written(path: Path, rows, header="start,end,entity,severity,text") -> Path:
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        csv.writer(file).writerows(rows)
    return path


def rows_of(events):
    return [(each.start_s, each.end_s or "", each.entity, each.severity, each.text) for each in events.events]


def run(*arguments) -> Result:
    return CliRunner().invoke(tocsin, ["backtest", *map(str, arguments)])


def lines(result: Result):
    assert result.exit_code == 0, result.output
    return list(csv.DictReader(result.stdout.splitlines()))


def test_each_origin_has_one_line_from_the_first_start_to_the_last_less_the_horizon(tmp_path):
    events = chance(1, days=10)
    found = lines(run(written(tmp_path / "e.csv", rows_of(events))))
    origins = [int(each["origin"]) for each in found]
    assert origins == list(range(origins[0], origins[-1] + 1, 3600))
    assert origins[0] % 3600 == 0
    assert 0 <= origins[0] - events.starts[0] < 3600
    assert 0 <= events.starts[-1] - 4 * HOUR_S - origins[-1] < 3600
    assert all(0.0 < float(each["probability"]) < 1.0 for each in found)
    assert {(each["published"], each["model"]) for each in found} <= {("0", "reference"), ("1", "logistic")}


def test_what_can_be_seen_coming_is_published_and_the_model_named(tmp_path):
    found = lines(run(written(tmp_path / "e.csv", rows_of(announced(1, days=60)))))
    assert (found[-1]["published"], found[-1]["model"]) == ("1", "logistic")


def test_horizon_and_step_are_what_was_asked_for(tmp_path):
    file = written(tmp_path / "e.csv", rows_of(chance(1, days=10)))
    found = lines(run(file, "--horizon", "1d", "--step", "6h"))
    assert all(int(each["origin"]) % 21600 == 0 for each in found)
    often = lines(run(file, "--horizon", "2d", "--step", "6h"))
    assert float(often[20]["probability"]) > float(found[20]["probability"])


def test_a_shorter_history_gives_the_same_lines(tmp_path):
    events = announced(1, days=40)
    whole = lines(run(written(tmp_path / "whole.csv", rows_of(events))))
    kept = rows_of(events)[: len(events) // 2]
    now = kept[-1][0]
    kept = [(start, end if end and end <= now else "", *rest) for start, end, *rest in kept]
    part = lines(run(written(tmp_path / "part.csv", kept)))
    assert part == whole[: len(part)]


def test_out_takes_the_file_and_stdout_stays_empty(tmp_path):
    file = written(tmp_path / "e.csv", rows_of(chance(1, days=5)))
    result = run(file, "--out", tmp_path / "out.csv")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert (tmp_path / "out.csv").read_text() == run(file).stdout
    assert sorted(each.name for each in tmp_path.iterdir()) == ["e.csv", "out.csv"]


def test_an_output_that_cannot_be_written_is_said(tmp_path):
    file = written(tmp_path / "e.csv", rows_of(chance(1, days=5)))
    result = run(file, "--out", tmp_path / "nowhere" / "out.csv")
    assert result.exit_code == 1
    assert "cannot write" in result.stderr


def test_rows_in_any_order_give_the_same_and_it_is_told(tmp_path):
    rows = rows_of(chance(1, days=10))
    good = run(written(tmp_path / "good.csv", rows))
    back = run(written(tmp_path / "back.csv", rows[::-1]))
    assert back.stdout == good.stdout
    assert "sorted by time" in back.stderr
    assert "sorted" not in good.stderr


def test_times_may_stand_as_rfc_3339_and_origins_then_do(tmp_path):
    file = tmp_path / "e.csv"
    file.write_text("start\n2026-01-05T00:30:00Z\n2026-01-05T06:30:00+01:00\n2026-01-05T12:00:00\n")
    found = lines(run(file))
    assert found[0]["origin"] == "2026-01-05T01:00:00Z"
    assert found[-1]["origin"] == "2026-01-05T08:00:00Z"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1: empty"),
        ("time,end\n1,2\n", ":1: unknown column 'time'"),
        ("end,text\n1,2\n", ":1: no column `start`"),
        ("start,start\n1,2\n", ":1: column 'start' stands there twice"),
        ("start,end\n5,6\nx,7\n", ":3: start 'x' is no time; write seconds since 1970"),
        ("start,end\n5,6\n7,y\n", ":3: end 'y' is no time"),
        ("start,end\n5,6\n7\n", ":3: 1 fields under a header of 2"),
        ("start,text\n5,one, two\n", ":2: 3 fields under a header of 2; put quotes"),
        ("start\n5\n\n1700000000000\n", ":4: start '1700000000000' is not between 1900 and 2200"),
        ("start\nnan\n", ":2: start 'nan' is no time"),
        ("start\n1e308\n", ":2: start '1e308' is not between"),
        ('start,text\n5,"a\n', "no CSV"),
    ],
)
def test_a_bad_header_or_line_ends_it_with_its_place(tmp_path, text, said):
    file = tmp_path / "bad.csv"
    file.write_text(text)
    result = run(file, "--out", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert said in result.stderr
    assert "bad.csv" in result.stderr
    assert not (tmp_path / "out.csv").exists()


def test_a_file_that_is_no_text_is_told(tmp_path):
    file = tmp_path / "bad.csv"
    file.write_bytes(b"start\n\xff\xfe\x00\n")
    assert "UTF-8" in run(file).stderr


@pytest.mark.parametrize(
    "rows",
    [[], [(5.0, "", "", "", "")], [(5.0, "", "", "", "")] * 3, [(0, "", "", "", ""), (9e4, 1.0, "", "", "")]],
)
def test_nothing_one_event_duplicates_and_two_are_no_trouble(tmp_path, rows):
    result = run(written(tmp_path / "e.csv", rows))
    assert result.exit_code == 0
    assert result.stdout.startswith("origin,probability,published,model\n")


def test_an_end_before_its_start_is_unknown_and_told(tmp_path):
    result = run(written(tmp_path / "e.csv", [(100.0, 50.0, "", "", ""), (200.0, "", "", "", "")]))
    assert result.exit_code == 0
    assert "1 end before the start" in result.stderr


def test_more_origins_than_can_be_are_refused_with_a_step_that_fits(tmp_path):
    result = run(written(tmp_path / "e.csv", [(0.0, "", "", "", ""), (2e9, "", "", "", "")]), "--step", "1m")
    assert result.exit_code == 1
    assert "write --step 7m or more" in result.stderr


def test_a_horizon_of_more_steps_than_can_wait_is_refused_with_a_step_that_fits(tmp_path):
    events = written(tmp_path / "e.csv", [(0.0, "", "", "", ""), (1e8, "", "", "", "")])
    found = run(events, "--horizon", "365d", "--step", "2m")
    assert found.exit_code == 1
    assert "262,800 steps in a horizon; write --step 11m or more" in found.stderr


@pytest.mark.parametrize("option", ["--horizon", "--step"])
@pytest.mark.parametrize("span", ["", "4", "4x", "-1h", "0h", "30s", "400d"])
def test_a_span_that_is_none_is_a_usage_error(tmp_path, option, span):
    result = run(written(tmp_path / "e.csv", []), option, span)
    assert result.exit_code == 2
    assert "write 15m, 4h or 2d" in result.stderr


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: ("start,end\n" + text).encode("utf-8", "replace"))
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path, body):
    file = tmp_path / "any.csv"
    file.write_bytes(body)
    with suppress(RefusedError):
        found = read_events(file)
        assert all(each.end_s is None or each.end_s >= each.start_s for each in found.events)
