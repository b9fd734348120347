"""What the kernel allows this process, and how much of it is asked for."""

from __future__ import annotations

import resource
from contextlib import suppress

#: More files than this are of no use here; some systems allow a thousand times as many.
MAX_FILES = 1 << 20
#: The share of the files that connections may have that only wait for a next request.
WAITING_SHARE = 0.5
#: The share that all connections may have; the rest is for stores, logs and what is sent out.
CONNECTED_SHARE = 0.9


def raise_file_limit() -> int:
    """Ask for as many open files as may be had; return how many that is.

    Shells and containers start processes with 1,024, which a storm of new connections exceeds.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it: then it stays as it was
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_FILES if soft == resource.RLIM_INFINITY else soft


def most_connections(files: int) -> int:
    """Return how many connections there may be where so many files may be open."""
    return int(files * CONNECTED_SHARE)


def waiting_connections(files: int) -> int:
    """Return how many connections may wait for a next request where so many files may be open."""
    return int(files * WAITING_SHARE)
