"""RELP, the Reliable Event Logging Protocol: syslog where every message is answered.

A frame is `TXNR SP COMMAND SP LENGTH [SP DATA] LF`; the answer to transaction n is `n rsp LENGTH 200 OK...`.
All messages of a request are sent before the first answer is awaited, answers come in order.

Decision: our own, because no asyncio client exists and the client half is this page.
Source: https://github.com/rsyslog/librelp, doc/relp.html (protocol version 0).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bridge.ports import FramesResponse

LARGEST_TRANSACTION = 999_999_999
ANSWER_BYTES = 64 * 1024
TOKEN_BYTES = 32  # the longest command of the protocol
OFFER = b"relp_version=0\nrelp_software=tocsin\ncommands=syslog"


class RelpError(Exception):
    """The far end does not speak RELP, or has closed the session."""


class RelpSession:
    """One session on one connection. `send` may be called again only after the one before has returned."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._transaction = 0
        self.is_broken = False  # answers may be missing or out of step: nothing more is to be sent

    async def open(self) -> None:
        """Offer the session.

        Raises:
            RelpError: it was refused.
        """
        number = self._write(b"open", OFFER)
        status, words = await self._answer(number)
        if not status.startswith("2"):
            raise RelpError(f"the session was refused: {status} {words}".strip())

    async def send(self, frames: Sequence[bytes]) -> FramesResponse:
        """Return how many messages were answered with 200, in order, and why the next one was not.

        Raises:
            RelpError, OSError, EOFError: the session broke before the first answer; all may have arrived. A
                refusal that was read before it broke is an answer, and is returned.
        """
        numbers = []
        for frame in frames:
            numbers.append(self._write(b"syslog", frame))
            await self._writer.drain()
        accepted, refused = 0, ""
        for number in numbers:
            try:
                status, words = await self._answer(number)
            except (RelpError, OSError, EOFError) as error:
                self.is_broken = True
                if not accepted and not refused:
                    raise
                return FramesResponse(
                    accepted=accepted,
                    refused=refused or f"the session broke: {error}",
                    answered=bool(refused),
                )
            if not status.startswith("2"):
                # The answers to the rest are read too, so that the session can be kept.
                refused = refused or f"RELP {status} {words}".strip()
            elif not refused:
                accepted += 1
        return FramesResponse(accepted=accepted, refused=refused, answered=bool(refused))

    async def close(self) -> None:
        """End the session; the far end closes the connection then."""
        await self._answer(self._write(b"close", b""))

    def _write(self, command: bytes, data: bytes) -> int:
        self._transaction = self._transaction % LARGEST_TRANSACTION + 1
        head = b"%d %b %d" % (self._transaction, command, len(data))
        self._writer.write(head + (b" " + data if data else b"") + b"\n")
        return self._transaction

    async def _answer(self, number: int) -> tuple[str, str]:
        transaction, command, data = await self._frame()
        if command == b"serverclose":
            raise RelpError("the receiver closed the session")
        if (transaction, command) != (number, b"rsp"):
            raise RelpError("an answer to something that was not asked")
        status, _, words = data.partition(b"\n")[0].decode("ascii", "replace").partition(" ")
        # `close` is answered without a status.
        return status or "200", words[:200]

    async def _frame(self) -> tuple[int, bytes, bytes]:
        """Return transaction, command and data of the next frame."""
        number, _ = await self._token()
        command, _ = await self._token()
        length, end = await self._token()
        if not number.isdigit() or not length.isdigit() or int(length) > ANSWER_BYTES:
            raise RelpError("the answer is not RELP")
        if end == b"\n":  # an empty frame may end at its length
            return int(number), command, b""
        data = await self._reader.readexactly(int(length) + 1)
        return int(number), command, data[:-1]

    async def _token(self) -> tuple[bytes, bytes]:
        """Return the next word and what ended it: a space or the end of the frame."""
        token = b""
        while (each := await self._reader.readexactly(1)) not in {b" ", b"\n"}:
            token += each
            if len(token) > TOKEN_BYTES:
                raise RelpError("the answer is not RELP")
        return token, each
