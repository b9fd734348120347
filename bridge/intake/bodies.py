"""Reading a body that is not there yet: within its time, and holding what it takes."""

from __future__ import annotations

from aiohttp import StreamReader

from bridge.intake.budget import Hold
from bridge.intake.terms import RefusedError

#: A chunked body reserves this much at a time.
PIECE_BYTES = 64 << 10


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
