"""Who changed what: a log that is only ever appended to, a file for each month beside the stores.

Rules: a change is written down, and is on the disk, before it is made; what came of it is written behind it. So a
change that was made stands here however the process ended; one that stands here without its end may have been made or
not. A change that cannot be written down is not made. No secret is in it: a credential stands with its name,
and what people write is redacted as alerts are. A month is
deleted as a whole once all of it is older than it is to be kept.

Decision: not a table in one of the stores. Changes go into the inbox, into the deliveries and into files of their own,
and no transaction spans them; written before, an entry is right for all of them. And a file that is opened for
appending can be made append-only by the operating system (`chattr +a`), which a database cannot.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bridge.app.appending import append
from bridge.errors import StorageError
from bridge.model import Word

_MONTH = re.compile(r"audit-([0-9]{4})-([0-9]{2})\.jsonl")
#: Longest month, so that nothing is deleted too early.
_MONTH_S = 31 * 86_400


class AuditPage(Word, frozen=True, kw_only=True):
    """Part of the log, newest first."""

    items: tuple[dict[str, Any], ...]
    next: str | None


class AuditLog:
    """The log of one directory."""

    def __init__(
        self,
        folder: Path,
        *,
        wall: Callable[[], float],
        keep_s: Callable[[], float],
        redact: Callable[[str, Any], Any] = lambda _tenant, value: value,
    ) -> None:
        """Take the directory, the time in seconds since the epoch, and how long entries are kept.

        `redact` returns what may be kept of what was asked for, as the tenant's settings say.
        """
        self._folder = folder
        self._redact = redact
        self._wall = wall
        self._keep_s = keep_s

    async def begin(self, entry: dict[str, Any]) -> str:
        """Write down a change that is about to be made; return the entry's id.

        Raises:
            StorageError: It cannot be written; then the change must not be made.
        """
        return await asyncio.to_thread(self.write, entry)

    async def end(self, entry: str, *, tenant: str, done: bool, after: object) -> None:
        """Write down what came of it.

        Raises:
            StorageError: It cannot be written.
        """
        await asyncio.to_thread(self._append, {"of": entry, "tenant": tenant, "done": done, "after": after})

    def write(self, entry: dict[str, Any]) -> str:
        """Write down a change from a command; as `begin`."""
        name = f"aud-{secrets.token_hex(8)}"
        self._append({"id": name, **entry})
        return name

    async def prune(self) -> None:
        """Delete the months all of which is older than it is to be kept.

        Raises:
            StorageError: One cannot be deleted.
        """
        await asyncio.to_thread(self._prune_at, datetime.fromtimestamp(self._wall(), UTC))

    def _prune_at(self, now: datetime) -> None:
        try:
            self._prune(now)
        except OSError as error:
            raise StorageError(f"the audit log cannot be pruned: {error.strerror}") from error

    def page(self, tenant: str, *, limit: int, cursor: str | None) -> AuditPage:
        """Return a tenant's entries, newest first, each with what came of it. Blocks.

        Raises:
            StorageError: The log cannot be read.
            ValueError: The cursor is none of this tenant's list.
        """
        if cursor is not None and not re.fullmatch("aud-[0-9a-f]{16}", cursor):
            raise ValueError("is no cursor of this list")
        found: list[dict[str, Any]] = []
        ends: dict[str, dict[str, Any]] = {}
        is_reached = cursor is None
        for line in self._lines():
            if line.get("tenant") != tenant or not {"id", "of"} & line.keys():
                continue
            if "of" in line:
                ends[line["of"]] = line
                continue
            if is_reached:
                found.append(_shown(line, ends.pop(line["id"], None)))
            is_reached = is_reached or line["id"] == cursor
            if len(found) > limit:
                break
        if not is_reached:
            raise ValueError("is no cursor of this list")
        more = len(found) > limit
        return AuditPage(items=tuple(found[:limit]), next=found[limit - 1]["id"] if more else None)

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Yield every line, newest first, a month at a time."""
        try:
            for path in sorted(_months(self._folder), reverse=True):
                for text in reversed(path.read_bytes().split(b"\n")):
                    try:
                        line = msgspec.json.decode(text)
                    except (msgspec.MsgspecError, UnicodeDecodeError):
                        continue  # empty, or half a line of a process that was killed
                    if isinstance(line, dict):
                        yield line
        except OSError as error:
            raise StorageError(f"the audit log cannot be read: {error.strerror}") from error

    def _append(self, line: dict[str, Any]) -> None:
        told = {"asked", "before", "after"} & line.keys()
        line = line | {name: self._redact(line["tenant"], line[name]) for name in told}
        at = datetime.fromtimestamp(self._wall(), UTC)
        path = self._folder / f"audit-{at:%Y-%m}.jsonl"
        text = msgspec.json.encode({"at": at, **line})
        try:
            if append(path, text):
                self._prune(at)
        except OSError as error:
            raise StorageError(f"the audit log cannot be written: {error.strerror}") from error

    def _prune(self, now: datetime) -> None:
        oldest = now - timedelta(seconds=self._keep_s() + _MONTH_S)
        for path in _months(self._folder):
            year, month = map(int, _MONTH.fullmatch(path.name).groups())  # type: ignore[union-attr]
            if datetime(year, month, 1, tzinfo=UTC) < oldest:
                path.unlink()


def _months(folder: Path) -> list[Path]:
    return [path for path in folder.glob("audit-*.jsonl") if _MONTH.fullmatch(path.name)]


def _shown(line: dict[str, Any], end: dict[str, Any] | None) -> dict[str, Any]:
    """Return an entry with what came of it; both null where that is not known."""
    done, after = (None, None) if end is None else (end["done"], end["after"])
    return {**line, "done": line.get("done", done), "after": line.get("after", after)}
