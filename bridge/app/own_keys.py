"""Keys that Tocsin makes itself: 256 bits in hexadecimal, in a file beside the stores that only its owner reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from bridge.app.appending import hand_over, sync_folder
from bridge.errors import StorageError

_DIGITS = 64


def own_key(path: Path, first: str = "") -> str:
    """Return the key in a file; it is made if there is none, once, whoever asks at the same time.

    `first` is then the key; "" for a new one.

    Raises:
        StorageError: It cannot be read or made, or the file holds something else.
    """
    try:
        if not path.exists():
            fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(first or secrets.token_hex(_DIGITS // 2))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, path)  # whoever is first: two keys would make half of what is made worthless
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
            hand_over(path)
            sync_folder(path.parent)
        return read_key(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be read or made: {error.strerror}") from error


def read_key(path: Path) -> str:
    """Return the key in a file.

    Raises:
        OSError: It cannot be read.
        StorageError: It holds something else.
    """
    key = path.read_text(encoding="ascii", errors="replace").strip()
    if len(key) != _DIGITS:
        raise StorageError(f"{path} holds no key; delete it, and a new one is made")
    return key
