"""The key of hashes that stand in place of what was redacted: configured, or made once beside the stores.

Rules: it is in a file that only its owner reads, in the configuration's file or environment, and, until it was read, in
the environment of the analyst that the front starts: who can read that can read the file. It is in no row, no answer of
the API and no log (why: `bridge.redaction.redactor`). A key that is replaced makes other hashes from the next start on;
what was hashed before stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import SecretStr

from bridge.app.own_keys import own_key, read_key
from bridge.errors import StorageError
from bridge.redaction import NO_KEY

KEY_FILE = "redact.key"
#: In the environment of an analyst.
KEY_VARIABLE = "TOCSIN_REDACT_KEY"


def redact_key(configured: SecretStr | None, data: Path, first: bytes = NO_KEY) -> bytes:
    """Return the configured key, or that beside the stores, made if there is none; `first` is then that key, if given.

    Raises:
        StorageError: It cannot be read or made.
    """
    return own_key(data / KEY_FILE, first.decode()).encode() if configured is None else _bytes(configured)


def known_redact_key(configured: SecretStr | None, data: Path) -> bytes:
    """Return the same, but `NO_KEY` where none was made yet.

    Raises:
        StorageError: It cannot be read.
    """
    if configured is not None:
        return _bytes(configured)
    try:
        return read_key(data / KEY_FILE).encode()
    except FileNotFoundError:
        return NO_KEY
    except OSError as error:
        raise StorageError(f"{data / KEY_FILE} cannot be read: {error.strerror}") from error


def handed_over() -> bytes:
    """Return the key that this process was started with, and take it out of its environment."""
    return os.environb.pop(KEY_VARIABLE.encode(), NO_KEY)


def _bytes(configured: SecretStr) -> bytes:
    return configured.get_secret_value().encode()
