"""Log lines: what a record says, without secrets, as JSON for a machine or as text for a person.

Rules: one record is one line, whatever is in it. What a stranger sends reaches the log in reasons, names and
tracebacks: nothing of it may end a line, begin one that looks like ours, or speak to a terminal (escape sequences, and
characters that turn the direction of writing). So what is not printable is escaped, in JSON as JSON does it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO

from typing_extensions import override

_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Of what a stranger's bytes were refused for, so much is logged.
SAID_CHARS = 200
#: Of what is no HTTP, one line is logged in so long.
QUIET_S = 10.0
#: The path of an address can be a secret (Slack's is), so can its query and its user part.
_ADDRESS = re.compile(
    r"\b([a-zA-Z][a-zA-Z0-9+.-]*://)(?:[^\s/?#@\"'<>]*@)?([^\s/?#\"'<>]+)([/?#][^\s\"'<>]*)?"
)
_CREDENTIAL = re.compile(
    r"(?i)\b(bearer|basic|splunk|token|secret|password|routing_key)([\s:=\"']+)[\w.~+/=-]{8,}"
)


def mask(text: str) -> str:
    """Return `text` with addresses cut after the host and credentials replaced by stars."""
    text = _ADDRESS.sub(lambda found: f"{found[1]}{found[2]}{'/...' if found[3] else ''}", text)
    return _CREDENTIAL.sub(r"\1\2***", text)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what a record says besides its sentence, masked, `event` first."""
    fields: dict[str, object] = {"event": "library"}
    for name, value in vars(record).items():
        if name not in _RECORD_FIELDS:
            fields[name] = _masked(name, value)
    if record.exc_info and record.exc_info[0] is not None:
        fields.setdefault("error_type", record.exc_info[0].__name__)
    return fields


def _masked(name: str, value: object) -> object:
    """Return a value for a log line: numbers, lists and mappings stay what they are, all else is text."""
    if isinstance(value, int | float | None):
        return value
    if isinstance(value, Mapping):
        return {mask(str(key)): _masked(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(name, each) for each in value]
    # Beside its name a credential is known for one.
    return mask(f"{name}: {value}").removeprefix(f"{name}: ")


class NotHttp(logging.Filter):
    """Makes one line of what aiohttp logs as an error with its traceback: bytes of a stranger that are no HTTP.

    And of many one every `QUIET_S`, which says how many were left out: who sends nonsense must not fill the disk.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_at = float("-inf")
        self._unsaid = 0

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Change such a record, and say whether it is let through; all others are."""
        error = record.exc_info[1] if record.exc_info else None
        # By name: the analyst logs here too and must not load a web framework for it.
        if any(each.__module__ == "aiohttp.http_exceptions" for each in type(error).__mro__):
            what = " ".join(str(getattr(error, "message", error)).split())[:SAID_CHARS]
            peer = record.args[0] if isinstance(record.args, tuple) and record.args else "somebody"
            if record.created - self._said_at < QUIET_S:
                self._unsaid += 1
                return False
            more = f" ({self._unsaid} more since the last such line)" if self._unsaid else ""
            record.msg = "A request from %s is not HTTP and was refused: %s%s"
            record.args = (peer, what, more)
            self._said_at, self._unsaid = record.created, 0
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line, for machines."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its newline."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **fields_of(record),
            "message": mask(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = mask(self.formatException(record.exc_info))
        return _escaped(json.dumps(line, ensure_ascii=False, default=str))


class Readable(logging.Formatter):
    """One short line for a person at a terminal; what is not printable is escaped."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback below it if there is one."""
        fields = fields_of(record)
        said = " ".join(f"{name}={_readable(value)}" for name, value in fields.items() if name != "event")
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        line = _printable(f"{at} {record.levelname.lower():7} {mask(record.getMessage())}  {said}".rstrip())
        if record.exc_info:
            # Behind a bar: a message of several lines must not look as if another record began.
            line += "".join(
                f"\n| {_printable(row)}" for row in mask(self.formatException(record.exc_info)).splitlines()
            )
        return line


def set_up_logging(stream: IO[str] | None = None, *, level: str = "INFO") -> None:
    """Send all log lines to `stream` (standard error): JSON lines, or readable ones on a terminal."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Readable() if stream.isatty() else JsonLines())
    handler.addFilter(NotHttp())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for room in ("bridge", "connectors"):
        logging.getLogger(room).setLevel(level)


def _readable(value: object) -> str:
    is_nested = isinstance(value, dict | list)
    return json.dumps(value, ensure_ascii=False, default=str) if is_nested else str(value)


def _escaped(text: str) -> str:
    """Return JSON in which nothing is left that is not printable."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
