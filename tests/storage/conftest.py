from __future__ import annotations

import pytest
from inboxes import Clock, Commits

from bridge.storage.inbox import InboxWriter


@pytest.fixture
def path(tmp_path):
    """The inbox; test modules of other stores have a path of their own."""
    return tmp_path / "inbox.db"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def commits():
    return Commits()


@pytest.fixture
def opened(path, clock, commits):
    """Open the inbox; closed at the end if the test did not."""
    writers = []

    def start() -> InboxWriter:
        writer = InboxWriter(path, clock_us=clock, on_commit=commits)
        writer.start()
        writers.append(writer)
        return writer

    yield start
    clock.going.set()
    for writer in writers:
        writer.close()
