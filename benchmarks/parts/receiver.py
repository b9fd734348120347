"""A destination that can be told to misbehave, and keeps a ledger of its own of what it got.

It takes callbacks on loopback. What it has acknowledged it has; what it has read and not acknowledged, too, as a
destination whose answer is lost on the way has it. So it may get an event twice, and knows it by its id.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Mood(Enum):
    """What it does with a request."""

    WELL = "answers 200"
    RESETS = "reads and resets the connection"
    HALF_OPEN = "reads and never answers"
    REFUSES = "answers 500"
    BUSY = "answers 429 with Retry-After: 1"


@dataclass(slots=True)
class Received:
    """What arrived: events by id, and of each incident the numbers in the order in which they were acknowledged."""

    read: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    order: dict[str, list[int]] = field(default_factory=dict)

    @property
    def disordered(self) -> int:
        """How many incidents had an earlier event acknowledged after a later one."""
        return sum(numbers != sorted(numbers) for numbers in self.order.values())


class Receiver:
    """An HTTP server in threads of this process; `mood` may be changed at any time."""

    def __init__(self) -> None:
        self.mood = Mood.WELL
        self.received = Received()
        self.released = threading.Event()  # set: those who wait for an answer are cut off
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, body: bytes, mood: Mood) -> None:
        """Write an event into the ledger."""
        event: dict[str, Any] = json.loads(body)["data"]
        with self._lock:
            name = event["event_id"]
            self.received.read[name] += 1
            if mood is Mood.WELL:
                if not self.received.acknowledged[name]:
                    self.received.order.setdefault(event["incident"]["id"], []).append(event["seq"])
                self.received.acknowledged[name] += 1


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            mood = receiver.mood
            receiver.take(body, mood)
            if mood is Mood.RESETS:
                # Linger for no time: close() sends a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            if mood is Mood.HALF_OPEN:
                receiver.released.wait()
                self.close_connection = True
                return
            self.send_response({Mood.WELL: 200, Mood.REFUSES: 500, Mood.BUSY: 429}[mood])
            if mood is Mood.BUSY:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:  # type: ignore[override]
            """Say nothing."""

    return Handler
