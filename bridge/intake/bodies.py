"""Reading a body that is not there yet: within its time, at its pace, and holding what it takes.

Rules: what a sender announces is held for it, so it has to come. A body above `PACED_BYTES` must arrive in step
with the time it is given: of half the body at half the time. A small one is held for next to nothing and has all
of its time.

Decision: a share of the announced size rather than a rate in bytes per second. The limit for the whole body asks
for a rate already, and one that is kept from the beginning on is found out after seconds, not at the end.
"""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader

from bridge.intake.budget import Hold
from bridge.intake.terms import RefusedError

#: A chunked body reserves this much at a time.
PIECE_BYTES = 64 << 10
#: Below, a body comes in one or two round trips and holds little.
PACED_BYTES = 64 << 10
#: How long nothing needs to come of a paced body.
GRACE_S = 2.0


async def announced(content: StreamReader, size: int, limit_s: float) -> bytes:
    """Return a body of `size` bytes.

    Raises:
        TimeoutError: It did not come within `limit_s`, or not in step with it.
    """
    if size <= PACED_BYTES:
        async with asyncio.timeout(limit_s):
            return await content.read()
    now = asyncio.get_running_loop().time
    started = now()
    grace_s = min(GRACE_S, limit_s)
    pieces: list[bytes] = []
    come = 0
    while True:
        async with asyncio.timeout_at(started + grace_s + (limit_s - grace_s) * come / size):
            piece = await content.readany()
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        come += len(piece)


async def chunked(content: StreamReader, hold: Hold, limit_bytes: int) -> bytes:
    """Return a body of unknown length; what it takes is held as it comes."""
    pieces: list[bytes] = []
    size = 0
    while piece := await content.readany():
        size += len(piece)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        if size > hold.size_bytes:
            hold.grow(max(size - hold.size_bytes, PIECE_BYTES))
        pieces.append(piece)
    return b"".join(pieces)


def too_large(limit_bytes: int) -> RefusedError:
    """Return the refusal of a body that is larger than allowed."""
    return RefusedError("too_large", f"the body is larger than {limit_bytes} bytes")
