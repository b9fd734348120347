"""Secrets are compared by `hmac.compare_digest` and nothing else: how long a comparison takes must not show how much is right."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What a value that must not be compared in another way is called here, and how one is taken out of its wrapper.
SECRETS = {
    "secret",
    "token",
    "password",
    "signature",
    "digest",
    "mac",
    "hmac",
    "credential",
    "authorization",
    "key_bytes",
}
TAKEN = {"reveal", "get_secret_value", "digest", "hexdigest"}
#: Comparisons of what only has such a name.
HARMLESS = {
    "each.token == token",  # Splunk's number of an acknowledgement
    "token not in known",  # a token's id
    "' ' in token",
}


def named(value: ast.expr) -> str:
    """Return what a value is called: the last word of it."""
    match value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").lower()
        case ast.Call(func=ast.Attribute(attr=name)) if name in TAKEN:
            return "secret"
        case ast.Call(func=ast.Attribute(value=inner, attr="lower" | "encode" | "strip" | "decode")):
            return named(inner)
        case _:
            return ""


def compared(source: str) -> Iterator[str]:
    """Yield every comparison of a secret that takes as long as it is right."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and not isinstance(
            node.ops[0], ast.Is | ast.IsNot | ast.Lt | ast.Gt
        ):
            sides = [
                part for each in (node.left, *node.comparators) for part in (each, *getattr(each, "elts", ()))
            ]
            if any(isinstance(each, ast.Constant) and each.value in {None, ""} for each in sides):
                continue  # whether there is one at all
            if SECRETS & {named(each) for each in sides} and ast.unparse(node) not in HARMLESS:
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_no_secret_is_compared_in_a_time_that_tells():
    found = {
        str(path.relative_to(ROOT)): list(compared(path.read_text("utf-8")))
        for room in ("bridge", "connectors")
        for path in sorted((ROOT / room).rglob("*.py"))
    }
    assert {path: lines for path, lines in found.items() if lines} == {}
    assert "hmac.compare_digest" in (ROOT / "bridge/auth/signatures.py").read_text("utf-8")


@pytest.mark.parametrize(
    "source",
    ["token == given", "self._secret != x", "shown in (password,)", "x.hexdigest() == y", "a == b.reveal()",
     "signature.lower() == x"],
)  # fmt: skip
def test_such_a_comparison_would_be_found(source: str):
    assert list(compared(source))


@pytest.mark.parametrize(
    "source", ["token is None", 'secret == ""', "name == other", "compare_digest(token, x)"]
)
def test_what_tells_nothing_is_left_alone(source: str):
    assert not list(compared(source))
