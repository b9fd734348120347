"""The command itself: its name, its help, and what becomes of what Tocsin raises."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click
from typing_extensions import override

from bridge.errors import ConfigError, TocsinError

#: Standard output goes to a file where no more fits.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def examples(*lines: str) -> str:
    """Return the end of a command's help: command lines to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class Tocsin(click.Group):
    """A group whose commands answer what Tocsin raises on purpose with a sentence and exit 1."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                if sys.stdout:  # None where it was closed
                    sys.stdout.flush()
        except ConfigError as error:
            for fault in error.faults:
                click.echo(fault, err=True)
            raise click.exceptions.Exit(1) from error
        except TocsinError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.errno not in FULL:
                raise
            # What is still to be written would fail once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.ClickException(f"cannot write what was found: {error.strerror}") from error


@click.group(cls=Tocsin, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tocsin", prog_name="tocsin", message="%(prog)s %(version)s")
def tocsin() -> None:
    """Stand beside Alertmanager: many alerts in, few explained incidents out.

    `tocsin demo` shows it at work with nothing to set up. Every command has its own --help with examples.
    """
