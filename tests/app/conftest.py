from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sidecars import NO_MODELS, Sidecar


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Sidecar]]:
    """Make sidecars; whatever still runs at the end is killed, its analyst dies with it."""
    made: list[Sidecar] = []

    def one(configuration: str = NO_MODELS, **environ: str) -> Sidecar:
        made.append(Sidecar(tmp_path, configuration, **environ))
        return made[-1]

    yield one
    for sidecar in made:
        if sidecar.process is not None:
            sidecar.process.kill()
            sidecar.process.wait()
