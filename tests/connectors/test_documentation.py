"""docs/connectors says what the code does: a page for each kind, and a row in the list of all."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml
from destinations import EXPECTED, build

import connectors
from connectors.templates import FIELDS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in (DOCS / "connectors").glob("*.md")}
WRITTEN = runpy.run_path(str(DOCS.parent / ".ci" / "pages.py"))
LIST = (
    (DOCS / "connectors.md").read_text(encoding="utf-8").partition("## All of them")[2].partition("\n## ")[0]
)


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_the_example_of_a_kind_is_the_one_that_is_tested(kind):
    block = PAGES[kind].partition("```yaml\n")[2].partition("```")[0]

    assert yaml.safe_load(block) == connectors.load(kind).example


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_the_delivery_class_of_a_kind_is_told(kind):
    words = build(kind).caps.delivery_class.split(",")[0]

    assert words in PAGES[kind].lower().replace("`", "")


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_every_kind_is_in_the_list_with_its_delivery_class_and_extra(kind):
    row = re.search(rf"^\| \[`{kind}`\]\(connectors/{kind}\.md\) .*$", LIST, re.MULTILINE)

    assert row
    assert build(kind).caps.delivery_class.split(",")[0] in row[0]
    assert (f"`{connectors.EXTRAS[kind]}`" if kind in connectors.EXTRAS else "| |") in row[0]


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_every_kind_has_what_the_contract_suite_asks_for_and_golden_bytes(kind):
    assert kind in EXPECTED
    assert sorted((Path(__file__).parents[1] / "golden" / kind).glob("*.txt"))


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_every_setting_is_in_the_page_with_its_default_and_its_sentence(kind):
    for name, field in connectors.load(kind).Settings.model_fields.items():
        assert field.description, f"{name} of {kind} has no sentence"
        assert field.description.endswith(".")
    assert WRITTEN["with_settings"](kind, PAGES[kind]) == PAGES[kind], "say make docs"


def test_every_page_is_that_of_a_kind():
    assert set(PAGES) == set(connectors.KINDS)


def test_every_field_of_a_template_is_told():
    text = (DOCS / "connectors.md").read_text(encoding="utf-8").partition("The fields are")[2]

    assert re.findall(r"`\{(\w+)\}`", text) == sorted(FIELDS)
