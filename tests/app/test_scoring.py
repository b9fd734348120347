"""`tocsin score`: rows in, rows out."""

from __future__ import annotations

import csv
import io
import itertools
import os

import numpy as np
import pytest
from click.testing import CliRunner

from bridge.app.scoring import FEW, ScoreError, read, score
from bridge.cli import tocsin


def series(rows: int = 400, spike_at: int | None = 350) -> list[tuple[str, str]]:
    values = np.random.default_rng(5).normal(50, 2, rows)
    if spike_at is not None:
        values[spike_at] = 120.0
    return [(str(1_700_000_000 + 300 * row), f"{value:.3f}") for row, value in enumerate(values)]


def written(path, rows, header="timestamp,value"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    return path


def run(*arguments):
    return CliRunner().invoke(tocsin, ["score", *map(str, arguments)])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def nothing(_rows: int) -> None:
    pass


# ---- rows ----------------------------------------------------------------------------------------------


def test_one_row_out_for_one_row_in_and_the_strange_one_stands_out(tmp_path):
    rows = series()
    answer = run(written(tmp_path / "a.csv", rows))
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("timestamp,value,score,model\n")
    found = rows_of(answer.stdout)
    assert [(each["timestamp"], each["value"]) for each in found] == rows
    assert found[0]["score"] == ""
    scores = [float(each["score"] or 0) for each in found]
    assert np.argmax(scores) == 350
    assert 0.5 < max(scores) <= 1
    assert {each["model"] for each in found} == {"spot"}


def test_a_row_is_scored_by_the_rows_before_it_alone(tmp_path):
    rows = series()
    whole = run(written(tmp_path / "a.csv", rows)).stdout.splitlines()
    part = run(written(tmp_path / "b.csv", rows[:200])).stdout.splitlines()
    assert part == whole[:201]


def test_a_shape_that_comes_again_and_again_has_a_model_of_its_own_from_the_first_look_on(tmp_path):
    values = 50 + 10 * np.sin(np.arange(400) * np.pi / 6) + np.random.default_rng(3).normal(0, 1, 400)
    values[300:312] = 50.0
    rows = [(str(1_700_000_000 + 300 * row), f"{value:.3f}") for row, value in enumerate(values)]
    found = rows_of(run(written(tmp_path / "a.csv", rows)).stdout)
    assert [each["model"] for each in found] == ["spot"] * 200 + ["shape"] * 200
    assert found[200]["score"] != "", "it comes warm"
    strangest = max(range(400), key=lambda row: float(found[row]["score"] or 0))
    assert 300 <= strangest < 312 + 24, "while the last 24 values hold some of it"


def test_counts_that_are_mostly_zero_have_a_model_of_their_own(tmp_path):
    values = np.random.default_rng(1).poisson(0.05, 300)
    rows = [(str(1_700_000_000 + 300 * row), str(value)) for row, value in enumerate(values)]
    rows[250] = (rows[250][0], "9")
    found = rows_of(run(written(tmp_path / "a.csv", rows)).stdout)
    assert found[-1]["model"] == "counts"
    assert max(range(300), key=lambda row: float(found[row]["score"] or 0)) == 250


@pytest.mark.parametrize("text", ["", "nan", "NaN", "inf", "-inf", "1e999", "n/a", "0x10"])
def test_an_unusable_value_gets_an_empty_score_and_its_neighbours_do_not(tmp_path, text):
    rows = series()
    rows[200] = (rows[200][0], text)
    found = rows_of(run(written(tmp_path / "a.csv", rows)).stdout)
    assert found[200]["value"] == text
    assert found[200]["score"] == ""
    assert found[199]["score"] != "" != found[201]["score"]


def test_a_pipe_is_read_like_a_file():
    ours, theirs = os.pipe()
    try:
        os.write(theirs, b"timestamp,value\n1700000000,5\n")
        os.close(theirs)
        answer = run(f"/dev/fd/{ours}")
    finally:
        os.close(ours)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout == "timestamp,value,score,model\n1700000000,5,,spot\n"


def test_times_are_epoch_seconds_or_iso_8601_and_utc_where_they_name_no_zone(tmp_path):
    times = [
        "1700000000",
        "1700000000.5",
        "2023-11-14 22:13:20",
        "2023-11-14T22:13:20Z",
        "2023-11-14T23:13:20+01:00",
    ]
    table = read(written(tmp_path / "a.csv", [(each, "1") for each in times]))
    assert table.timestamps == times
    assert table.times_s.tolist() == [1.7e9, 1.7e9 + 0.5, 1.7e9, 1.7e9, 1.7e9]


def test_windows_line_ends_a_byte_order_mark_and_empty_lines_are_nothing_special(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfTimestamp, value\r\n1,2\r\n\r\n2,3\r\n\n")
    assert read(tmp_path / "a.csv").values.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_series_that_is_too_short_has_empty_scores(tmp_path, rows):
    answer = run(written(tmp_path / "a.csv", series(rows, None)))
    assert answer.exit_code == 0
    assert [each["score"] for each in rows_of(answer.stdout)] == [""] * rows


def test_gaps_duplicates_and_time_that_goes_back_are_survived(tmp_path):
    rows = series()
    moved = [*rows[:100], *rows[50:100], *rows[200:], *rows[100:200], *[rows[-1]] * 5]
    answer = run(written(tmp_path / "a.csv", moved))
    assert answer.exit_code == 0
    assert len(rows_of(answer.stdout)) == len(moved)


def test_a_constant_is_never_strange(tmp_path):
    answer = run(written(tmp_path / "a.csv", [(str(300 * row), "7") for row in range(300)]))
    assert all(float(each["score"] or 0) < 0.1 for each in rows_of(answer.stdout))


# ---- faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", "1", "empty"),
        ("time,value\n1,2\n", "1", "time,value"),
        ("value,timestamp\n1,2\n", "1", "value,timestamp"),
        ("1700000000,3\n", "1", "1700000000,3"),
        ("timestamp,value\n1,2\n2\n", "3", "1 fields"),
        ("timestamp,value\n1,2,3\n", "2", "3 fields"),
        ("timestamp,value\nyesterday,2\n", "2", "'yesterday' is no time"),
        ("timestamp,value\n1,2\n\n,2\n", "4", "empty is no time"),
        ("timestamp,value\nnan,2\n", "2", "no time"),
        ("timestamp,value\n1e999,2\n", "2", "no time"),
        ("timestamp,value\n1700000000,2\n1700000060000,2\n", "3", "not milliseconds"),
        ("timestamp,value\n1e300,2\n", "2", "no time"),
        ('timestamp,value\n"1"x,2\n', "2", "expected"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path, text, place, what):
    (tmp_path / "a.csv").write_text(text)
    answer = run(tmp_path / "a.csv", "--out", tmp_path / "out.csv")
    assert answer.exit_code == 1
    assert f"a.csv:{place}: " in answer.stderr
    assert what in answer.stderr
    assert not (tmp_path / "out.csv").exists()


def test_what_is_no_text_is_told(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"timestamp,value\n1,\xff\n")
    answer = run(tmp_path / "a.csv")
    assert answer.exit_code == 1
    assert "a.csv: it is not UTF-8" in answer.stderr


def test_a_fault_shows_a_little_of_a_long_line_and_no_control_characters(tmp_path):
    (tmp_path / "a.csv").write_text("timestamp,value\n\x1b[31m" + "x" * 500 + ",2\n")
    answer = run(tmp_path / "a.csv")
    assert "\x1b" not in answer.stderr
    assert len(answer.stderr) < 300


# ---- files and directories -----------------------------------------------------------------------------


def test_a_csv_file_is_one_however_its_name_is_written(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "B.CSV", "c.txt"):
        (tmp_path / "in" / name).write_text("timestamp,value\n1,2\n")
    found = CliRunner().invoke(tocsin, ["score", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert found.exit_code == 0
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["B.CSV", "a.csv"]


def test_a_directory_is_mirrored_and_each_file_is_scored_as_if_alone(tmp_path):
    home = tmp_path / "in"
    names = ["a.csv", "deep/er/b.csv", "deep/c.csv"]
    for name, rows in zip(names, (300, 120, 400), strict=True):
        written(home / name, series(rows, rows - 20))
    (home / "readme.txt").write_text("no series")
    answer = run(home, "--out", tmp_path / "out")
    assert answer.exit_code == 0, answer.output
    out = sorted(
        str(each.relative_to(tmp_path / "out")) for each in (tmp_path / "out").rglob("*") if each.is_file()
    )
    assert out == sorted(names)
    for name in names:
        assert (tmp_path / "out" / name).read_text() == run(home / name).stdout


def test_a_bad_file_in_a_directory_is_told_and_the_others_are_scored(tmp_path):
    written(tmp_path / "in/a.csv", series(80, None))
    written(tmp_path / "in/b.csv", [("x", "1")])
    answer = run(tmp_path / "in", "--out", tmp_path / "out")
    assert answer.exit_code == 1
    assert "b.csv:2:" in answer.stderr
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["a.csv"]


def test_scores_inside_of_the_directory_are_not_scored_again(tmp_path):
    written(tmp_path / "a.csv", series(80, None))
    for _ in range(2):
        assert run(tmp_path, "--out", tmp_path / "scores").exit_code == 0
    assert [each.name for each in (tmp_path / "scores").rglob("*")] == ["a.csv"]


def test_what_is_read_is_never_written_over(tmp_path):
    path = written(tmp_path / "a.csv", series(80, None))
    before = path.read_text()
    for arguments in ((path, "--out", path), (tmp_path, "--out", tmp_path)):
        answer = run(*arguments)
        assert answer.exit_code == 1
        assert "is what is read" in answer.stderr
    assert path.read_text() == before


def test_wishes_that_cannot_be_met_are_told(tmp_path):
    assert run(tmp_path).exit_code == 2
    assert run(tmp_path / "none.csv").exit_code == 2
    answer = run(tmp_path, "--out", tmp_path / "out")
    assert answer.exit_code == 1
    assert "no .csv file" in answer.stderr
    path = written(tmp_path / "a.csv", series(80, None))
    answer = run(path, "--out", path / "below.csv")
    assert answer.exit_code == 1
    assert "cannot write" in answer.stderr


def test_reading_names_what_cannot_be_read(tmp_path):
    with pytest.raises(ScoreError, match="No such file"):
        read(tmp_path / "none.csv")


def test_progress_hears_of_every_row(tmp_path):
    tables = [read(written(tmp_path / f"{rows}.csv", series(rows, None))) for rows in (30, 600)]
    heard = itertools.count()
    total = [0]

    def progress(rows: int) -> None:
        next(heard)
        total[0] += rows

    score(tables, progress)
    assert total == [630]
    assert next(heard) == 7
    assert score([], nothing) == []


@pytest.mark.parametrize("kind", ["numbers", "counts", "counts that turn into numbers", "a shape"])
def test_a_file_that_outlasts_the_others_goes_on_with_the_same_scores(tmp_path, kind):
    dice = np.random.default_rng(2)
    values = dice.normal(50, 2, 700) if kind == "numbers" else dice.poisson(0.05, 700).astype(float)
    if kind == "a shape":
        values = values + 10.0 * np.sin(np.arange(700) * np.pi / 6)
    if kind.startswith("counts that"):
        values[400:] += 3.0
    values[[320, 650]] += 60.0
    values[[100, 500]] = np.nan
    rows = [(str(1_700_000_000 + 300 * row), str(value)) for row, value in enumerate(values)]
    long = read(written(tmp_path / "long.csv", rows))
    others = [
        read(written(tmp_path / f"{number}.csv", series(90 * number, None))) for number in range(1, FEW + 1)
    ]
    # As many more as long: all of it is scored side by side.
    (alone,), (left, *_), (beside, *_) = (
        score(tables, nothing) for tables in ([long], [long, *others], [long] * (FEW + 2))
    )
    for other in (left, beside):
        assert np.array_equal(other.scores, alone.scores, equal_nan=True)
        assert np.array_equal(other.spoke, alone.spoke)
