"""What the tests of the dispatcher share: worlds whose stores are closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest
from dispatching import World

from bridge.dispatch import DispatchSettings
from bridge.ports import Caps

Make = Callable[..., World]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Make worlds; their stores are closed at the end."""
    worlds: list[World] = []
    numbers = count()

    def made(settings: DispatchSettings | None = None, **caps: Caps) -> World:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        worlds.append(World(folder, caps, settings))
        return worlds[-1]

    yield made
    for world in worlds:
        world.store.close()
