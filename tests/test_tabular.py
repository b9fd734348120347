"""Rows as CSV: what a reader of CSV gets back, and what a spreadsheet does not run."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timeline import START

from bridge.tabular import as_csv


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


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_what_a_spreadsheet_would_run_is_a_text(text):
    assert read(as_csv(("a",), [{"a": text}]))[1] == [f"'{text}"]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1, max_size=4
    )
)
def test_whatever_a_text_holds_it_stays_in_its_cell(texts):
    columns = [str(number) for number in range(len(texts))]

    [row] = read(as_csv(columns, [dict(zip(columns, texts, strict=True))]))[1:]

    assert [cell.removeprefix("'") for cell in row] == [text.removeprefix("'") for text in texts]
