"""Files that are only ever appended to, a line at a time, by several processes at once.

Rules: a line is on the disk when `append` returns. One that a killed process left half written is closed by the next
writer and passed over by readers. Files are readable to their owner only, and what root makes belongs to whom the
directory belongs: a sidecar that runs as somebody else must go on writing it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def append(path: Path, text: bytes) -> bool:
    """Append a line; return whether the file is new.

    Raises:
        OSError: It was not kept.
    """
    is_new = not path.exists()
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        is_torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        file.write(b"\n" * is_torn + text + b"\n")
        os.fsync(file.fileno())
    if is_new:
        hand_over(path)
        sync_folder(path.parent)
    return is_new


def hand_over(path: Path) -> None:
    """Give a file that root made to whom its directory belongs."""
    if os.getuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Bring the names of a directory to the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
