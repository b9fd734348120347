"""Rows as CSV: what a reader of CSV gets back, and what a spreadsheet does not run."""

from __future__ import annotations

import csv
import io
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timeline import START

from bridge.tabular import as_csv

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def read(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline="")))


def test_cells_are_written_as_bi_tools_read_them():
    row = {"text": 'a "b", c\r\nd', "none": None, "yes": True, "number": 0.25, "at": START}

    written = as_csv(tuple(row), [row])

    assert written.endswith(b"\r\n")
    assert read(written) == [list(row), ['a "b", c\r\nd', "", "true", "0.25", "2026-01-05T03:00:00Z"]]


def test_without_rows_there_is_a_header():
    assert as_csv(("a", "b"), []) == b"a,b\r\n"
    assert as_csv(("a", "b"), [], header=False) == b""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\uff1d1+1", "'\uff1d1+1"),
        (" =1", " '=1"),
        ("\u00a0=1", "\u00a0'=1"),
        ("\tx", "'\tx"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("\n=1", "'\n'=1"),
        ('disk full;=HYPERLINK("http://x")', 'disk full;\'=HYPERLINK("http://x")'),
        ("a;;=1;-2", "a;;'=1;'-2"),
        ("a\t=1+1", "a\t'=1+1"),
        ("a|\uff20x", "a|'\uff20x"),
        ("a,  -1", "a,  '-1"),
        ('a;"=1', "a;\"'=1"),
        ("a\r\n=1", "a\r\n'=1"),
    ],
)
def test_what_a_spreadsheet_would_run_is_a_text(text, shown):
    assert read(as_csv(("a",), [{"a": text}]))[1] == [shown]


@pytest.mark.parametrize(
    "text", ["node-1 is down", "p99 = 2 s; 3 of 40 -> firing", "mia@example.com", 'say "-x"']
)
def test_what_no_spreadsheet_runs_stays_as_it_is(text):
    assert read(as_csv(("a",), [{"a": text}]))[1] == [text]


def test_a_long_run_of_separators_costs_no_more_than_its_length():
    text = "a" + "\t" * 1_000_000
    started = time.process_time()
    as_csv(("a",), [{"a": text}])
    assert time.process_time() - started < 5


@given(
    st.lists(
        st.text(st.sampled_from("a'\" ;,\t|\r\n\u00a0=+-@\uff1d\uff0b\uff0d\uff20")), min_size=1, max_size=3
    ),
    st.sampled_from(";,\t|"),
)
def test_wherever_a_spreadsheet_splits_no_cell_is_a_formula(texts, separator):
    columns = [str(number) for number in range(len(texts))]

    written = as_csv(columns, [dict(zip(columns, texts, strict=True))], header=False).decode()

    for cell in re.split(rf"[{re.escape(separator)}\r\n]", written):
        assert not cell.replace('"', "").strip().startswith(FORMULA)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1, max_size=4
    )
)
def test_whatever_a_text_holds_it_stays_in_its_cell(texts):
    columns = [str(number) for number in range(len(texts))]

    [row] = read(as_csv(columns, [dict(zip(columns, texts, strict=True))]))[1:]

    assert [cell.replace("'", "") for cell in row] == [text.replace("'", "") for text in texts]
