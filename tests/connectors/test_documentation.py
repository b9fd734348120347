"""docs/connectors.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from destinations import build

import connectors

PAGE = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[1:]}


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_the_example_of_a_kind_is_the_one_that_is_tested(kind):
    block = SECTIONS[kind].partition("```yaml\n")[2].partition("```")[0]

    assert yaml.safe_load(block) == connectors.load(kind).example


@pytest.mark.parametrize("kind", connectors.KINDS)
def test_the_delivery_class_of_a_kind_is_told(kind):
    words = build(kind).caps.delivery_class.split(",")[0]

    assert words in SECTIONS[kind].lower().replace("`", "")


def test_every_section_is_a_kind():
    assert set(SECTIONS) - {"What all have in common"} == set(connectors.KINDS)
