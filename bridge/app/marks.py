"""Marks: whether a file is another one than before, without reading it."""

from __future__ import annotations

from pathlib import Path

Mark = tuple[int, int, int]


def mark_of(path: Path) -> Mark:
    """Return what changes when a file is written or replaced (inode, size, time); zeros if there is none."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
