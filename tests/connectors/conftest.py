"""Golden files: exact bytes, changed only by `pytest --update-golden`, and then the diff is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent.parent / "golden"


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


@pytest.fixture
def golden(request) -> Callable[[str, bytes], None]:
    """Return a function that compares bytes with a golden file."""

    def check(name: str, actual: bytes) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden", default=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(actual)
        assert path.exists(), f"no golden file {name}: run pytest --update-golden and read the diff"
        assert path.read_bytes() == actual

    return check
