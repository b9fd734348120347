"""Options that several commands share, and how JSON and times are written."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from bridge.app.remote import Remote

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
DEFAULT_URL = "http://127.0.0.1:9195"


def moment_of(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    """Return the time that an option names."""
    from bridge.app.screen import moment

    return moment(context, parameter, text)


def duration_of(context: click.Context, parameter: click.Parameter, text: str) -> float:
    """Return the span of time that an option names, s."""
    from bridge.app.screen import duration

    return duration(context, parameter, text)


def needs_stdout(out: Path | None) -> None:
    """End it where what is found would go to a standard output that is closed (`>&-`)."""
    if out is None and sys.stdout is None:
        raise click.ClickException("standard output is closed; name a file with --out")


def asks_sidecar(command: Command) -> Command:
    """Give a command `--url`, `--token`, `--token-file`; it is called with a `Remote` first."""

    @functools.wraps(command)
    def asking(*args: Any, url: str, token: str | None, token_file: Path | None, **options: Any) -> Any:
        return command(_remote(url, token, token_file), *args, **options)

    for option in (
        click.option("--token-file", type=FILE, help="A file that holds the token."),
        click.option("--token", envvar="TOCSIN_TOKEN", help="Token of the sidecar, or set TOCSIN_TOKEN."),
        click.option("--url", envvar="TOCSIN_URL", default=DEFAULT_URL, show_default=True,
                     help="Address of the running sidecar."),
    ):  # fmt: skip
        asking = option(asking)
    return asking  # type: ignore[return-value]


def _remote(url: str, token: str | None, token_file: Path | None) -> Remote:
    from bridge.app.remote import Remote, RemoteError

    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError):
            raise RemoteError(f"cannot read a token from {token_file}: it is no text file") from None
    return Remote(url, token)


def show(remote: Remote, page: Callable[..., str], *answers: object) -> None:
    """Print what `page` makes of answers; JSON of another shape is said to be that."""
    try:
        text = page(*answers)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise remote.foreign() from error
    click.echo(text)


def as_json(command: Command) -> Command:
    """Give a command `--json`."""
    return click.option("--json", "is_json", is_flag=True, help="Print JSON for a machine.")(command)


def since_option(command: Command) -> Command:
    """Give a command `--since`."""
    text = "Only from this time on: 2026-01-31T12:00:00Z, or 4h for the last four hours."
    return click.option("--since", metavar="TIME", callback=moment_of, help=text)(command)


def rfc3339(moment: datetime | None) -> str | None:
    """Return a time as the API takes it."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def print_json(answer: object) -> None:
    """Print an answer for a machine."""
    click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
