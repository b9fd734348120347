"""Writes what the docs take from the code: docs/metrics.md, and each destination's table of settings.

`make docs` runs it with the Python of .venv; tests compare what it would write with what is there. The rest of a
destination's page is written by hand, above `## Settings`.
"""
# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

import connectors
from bridge.telemetry import document
from connectors.credentials import OF_ALL_KINDS, Secret

DOCS = Path(__file__).parents[1] / "docs"
HEAD = "\n## Settings\n"


def main() -> None:
    """Write all of it."""
    (DOCS / "metrics.md").write_text(document(), "utf-8")
    for kind in connectors.KINDS:
        page = DOCS / "connectors" / f"{kind}.md"
        page.write_text(with_settings(kind, page.read_text("utf-8")), "utf-8")


def with_settings(kind: str, page: str) -> str:
    """Return a kind's page with its table of settings at the end."""
    return page.partition(HEAD)[0].rstrip() + "\n" + HEAD + "\n" + table(kind)


def table(kind: str) -> str:
    """Return a kind's settings with their defaults and sentences, as a table, without those of every kind."""
    fields = connectors.load(kind).Settings.model_fields
    rows = ["| setting | default | |", "|---|---|---|"]
    for name, field in fields.items():
        if name in OF_ALL_KINDS:
            continue
        if name.removesuffix("_file") in fields and name.endswith("_file"):
            continue
        twin = f", or `{name}_file`" if f"{name}_file" in fields else ""
        text = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}`{twin} | {_default(field, is_secret=bool(twin))} | {text} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo, *, is_secret: bool) -> str:
    if field.is_required():
        return "needed"
    value: Any = field.get_default(call_default_factory=True)
    if value is None or (is_secret and isinstance(value, Secret | SecretStr)):
        return ""
    shown = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    return f"`{json.dumps(shown, ensure_ascii=False, default=str)}`".replace("|", "\\|")


if __name__ == "__main__":
    main()
