"""The command line. Each command says what it wants and hands over; the work is in `bridge.app`.

Rules: rooms are imported inside the command that needs them, so that `tocsin --help` is quick. Exit 0: good;
1: the thing asked for is bad; 2: the command was written wrongly. What a person reads goes through `screen`,
what a machine reads is JSON on stdout (`--json`); progress and faults go to stderr. A running sidecar is
changed only through its API.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from typing_extensions import override

from bridge.errors import ConfigError, TocsinError

if TYPE_CHECKING:
    from bridge.app.remote import Remote

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(dir_okay=False, writable=True, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
DEFAULT_URL = "http://127.0.0.1:9195"


def examples(*lines: str) -> str:
    """Return the end of a command's help: command lines to copy."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


class Tocsin(click.Group):
    """A group whose commands answer what Tocsin raises on purpose with a sentence and exit 1."""

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for fault in error.faults:
                click.echo(fault, err=True)
            raise click.exceptions.Exit(1) from error
        except TocsinError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Tocsin, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tocsin", prog_name="tocsin", message="%(prog)s %(version)s")
def tocsin() -> None:
    """Stand beside Alertmanager: many alerts in, few explained incidents out.

    `tocsin demo` shows it at work with nothing to set up. Every command has its own --help with examples.
    """


# ---- options that several commands share ---------------------------------------------------------------


def _moment(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    from bridge.app.screen import moment

    return moment(context, parameter, text)


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
    from bridge.app.remote import Remote

    if token_file is not None:
        token = token_file.read_text(encoding="utf-8").strip()
    return Remote(url, token)


def as_json(command: Command) -> Command:
    """Give a command `--json`."""
    return click.option("--json", "is_json", is_flag=True, help="Print JSON for a machine.")(command)


def since_option(command: Command) -> Command:
    """Give a command `--since`."""
    text = "Only from this time on: 2026-01-31T12:00:00Z, or 4h for the last four hours."
    return click.option("--since", metavar="TIME", callback=_moment, help=text)(command)


def _rfc3339(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _print_json(answer: object) -> None:
    click.echo(json.dumps(answer, ensure_ascii=False, indent=2))


# ---- running -------------------------------------------------------------------------------------------


@tocsin.command(
    epilog=examples(
        "tocsin serve",
        "tocsin serve --config /etc/tocsin/tocsin.yaml --listen 0.0.0.0:9195 --data /var/lib/tocsin",
    )
)
@click.option("--config", "-c", type=FILE, help="The configuration; without one it runs on loopback only.")
@click.option("--listen", metavar="ADDRESS", help="host:port, in place of the configuration's.")
@click.option("--data", type=DIRECTORY, help="Directory of the stores, in place of the configuration's.")
def serve(config: Path | None, listen: str | None, data: Path | None) -> None:
    """Run the sidecar until it is stopped (SIGTERM or Ctrl-C). SIGHUP reads the configuration anew."""
    from bridge.app.running import serve as run

    sys.exit(run(config, listen=listen, data=data))


@tocsin.command(
    epilog=examples(
        "tocsin check tocsin.yaml",
        "tocsin check tocsin.yaml --connect",
        "tocsin check tocsin.yaml --send-test siem",
    )
)
@click.argument("file", type=FILE, required=False)
@click.option("--connect", is_flag=True, help="Ask each destination whether address and credentials work.")
@click.option("--send-test", metavar="NAME", help="Send one marked test event to this destination.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the configuration and end.")
@as_json
def check(file: Path | None, *, connect: bool, send_test: str | None, schema: bool, is_json: bool) -> None:
    """Check a configuration: every fault with its file, line and what to write instead."""
    from bridge.app import checking

    if schema:
        _print_json(checking.schema())
        return
    if file is None:
        raise click.UsageError("name the configuration FILE to check")
    if is_json:
        answer = checking.check(file, connect=connect, send_test=send_test)
        _print_json(answer.record())
    else:
        answer = checking.check(file, connect=connect, send_test=send_test, say=click.echo)
    sys.exit(0 if answer.good else 1)


@tocsin.command()
@click.option("--keep", is_flag=True, help="Keep the sidecar running at the end, to look around.")
@click.option("--speed", type=click.FloatRange(0.1, 100), default=1.0, hidden=True)
def demo(*, keep: bool, speed: float) -> None:
    """Start a sidecar, play a storm at it through real HTTP, and show what came in and what went out.

    Takes about half a minute, needs nothing, touches nothing and cleans up after itself.
    """
    from bridge.app.demo import play

    sys.exit(play(keep=keep, speed=speed))


@tocsin.command(
    epilog=examples(
        "tocsin replay webhooks.jsonl --incidents incidents.jsonl",
        "tocsin export --format webhooks --out history && tocsin replay history/webhooks.jsonl",
        "zcat old.jsonl.gz | tocsin replay - --config tocsin.yaml --events events.jsonl",
    )
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--config", "-c", type=FILE, help="Think as this configuration says, whatever was recorded.")
@click.option("--tenant", default="default", show_default=True, help="Tenant of lines that name none.")
@click.option("--incidents", type=OUTPUT, metavar="OUT", help="Write the final incidents as JSON lines.")
@click.option("--events", type=OUTPUT, metavar="OUT", help="Write every event as JSON lines.")
@click.option("--until", metavar="TIME", callback=_moment, help="Let time run to here after the last line.")
@click.option(
    "--store", type=DIRECTORY, metavar="DIR", help="Keep the state; `serve --data DIR` goes on from it."
)
@click.option("--no-models", is_flag=True, help="Encode nothing; use only what was recorded.")
@click.option("--batch", type=click.IntRange(1), default=256, hidden=True)
@as_json
def replay(files: tuple[str, ...], *, is_json: bool, **options: Any) -> None:
    """Put recorded webhooks through the whole analysis, in their own time, delivering nothing.

    A line is {"received_at", "source"?, "tenant"?, "body"} or a bare webhook; .gz and .zst too, `-` is stdin.
    Several files are merged by received_at. The same input under the same configuration gives the same bytes.
    """
    from bridge.app import replay as room

    summary = room.replay(files, room.Wishes(**options), say=lambda text: click.echo(text, err=True))
    if is_json:
        _print_json(summary.record())
    else:
        click.echo(summary.text())
    sys.exit(1 if summary.bad_lines else 0)


# ---- looking -------------------------------------------------------------------------------------------


@tocsin.command(
    epilog=examples("tocsin status", "tocsin status --url https://tocsin.example:9195 --token-file token")
)
@asks_sidecar
@as_json
def status(remote: Remote, *, is_json: bool) -> None:
    """Say how a running sidecar is doing: what it holds and how far behind it is."""
    from bridge.app import screen

    stats = remote.get("/api/v1/stats")
    if is_json:
        _print_json(stats)
    else:
        click.echo(screen.status_page(remote.url, stats))


@tocsin.command(
    epilog=examples(
        "tocsin incidents --state open --severity critical",
        "tocsin incidents --since 24h --json",
        "tocsin incidents 3f0c9a...",
    )
)
@click.argument("incident", required=False)
@click.option("--state", multiple=True, type=click.Choice(["open", "quiet", "closed", "merged"]),
              help="Only these states (may be repeated).")  # fmt: skip
@click.option("--severity", type=click.Choice(["critical", "warning", "info"]), help="Only this severity.")
@since_option
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@asks_sidecar
@as_json
def incidents(
    remote: Remote,
    incident: str | None,
    *,
    state: tuple[str, ...],
    severity: str | None,
    since: datetime | None,
    limit: int,
    is_json: bool,
) -> None:
    """List incidents, newest first, or show one INCIDENT whole."""
    from bridge.app import screen

    if incident is not None:
        found = remote.get(f"/api/v1/incidents/{_quoted(incident)}")
        _print_json(found) if is_json else click.echo(screen.incident_page(found))
        return
    asked = {"state": ",".join(state), "severity": severity, "since": _rfc3339(since)}
    items = list(remote.items("/api/v1/incidents", asked, limit=limit))
    _print_json(items) if is_json else click.echo(screen.incident_table(items))


# ---- dead letters and quarantine -----------------------------------------------------------------------


@tocsin.group()
def deliveries() -> None:
    """Look after what could not be delivered."""


@deliveries.command(
    "list",
    epilog=examples("tocsin deliveries list", "tocsin deliveries list --state waiting --destination siem"),
)
@click.option("--state", multiple=True, default=("dead",), show_default=True,
              type=click.Choice(["waiting", "pending", "delivered", "superseded", "dead", "dropped", "all"]),
              help="Only these states (may be repeated).")  # fmt: skip
@click.option("--destination", help="Only this destination.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@asks_sidecar
@as_json
def list_deliveries(
    remote: Remote, *, state: tuple[str, ...], destination: str | None, limit: int, is_json: bool
) -> None:
    """List deliveries; without --state the dead letters."""
    from bridge.app import screen

    items = list(_deliveries(remote, state, destination, limit))
    _print_json(items) if is_json else click.echo(screen.delivery_table(items))


@deliveries.command(
    "retry",
    epilog=examples("tocsin deliveries retry 17 18", "tocsin deliveries retry --all --destination siem"),
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "is_all", is_flag=True, help="Every dead letter (of --destination).")
@click.option("--destination", help="With --all: only this destination.")
@asks_sidecar
def retry_deliveries(remote: Remote, ids: tuple[str, ...], *, is_all: bool, destination: str | None) -> None:
    """Let dead letters go again."""
    _act_on_deliveries(remote, "retry", ids, is_all=is_all, destination=destination)


@deliveries.command("drop", epilog=examples("tocsin deliveries drop 17"))
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "is_all", is_flag=True, help="Every dead letter (of --destination).")
@click.option("--destination", help="With --all: only this destination.")
@asks_sidecar
def drop_deliveries(remote: Remote, ids: tuple[str, ...], *, is_all: bool, destination: str | None) -> None:
    """Give dead letters up for good."""
    _act_on_deliveries(remote, "drop", ids, is_all=is_all, destination=destination)


def _deliveries(
    remote: Remote, state: Iterable[str], destination: str | None, limit: int
) -> Iterator[dict[str, Any]]:
    states = "" if "all" in state else ",".join(state)
    return remote.items("/api/v1/deliveries", {"state": states, "destination": destination}, limit=limit)


def _act_on_deliveries(
    remote: Remote, action: str, ids: tuple[str, ...], *, is_all: bool, destination: str | None
) -> None:
    if is_all == bool(ids):
        raise click.UsageError("name the ID of one or more deliveries, or --all")
    chosen = ids or [each["id"] for each in _deliveries(remote, ["dead"], destination, sys.maxsize)]
    _act(remote, [f"/api/v1/deliveries/{_quoted(str(each))}/{action}" for each in chosen], action)


def _act(remote: Remote, paths: list[str], action: str) -> None:
    """Ask for an action on each; one refusal does not keep the others from it."""
    from bridge.app.remote import RemoteError
    from bridge.app.screen import Progress, count

    refused = 0
    with Progress(action, len(paths)) as progress:
        for path in paths:
            try:
                remote.post(path)
            except RemoteError as error:
                if not error.status:
                    raise
                refused += 1
                click.echo(f"{path.split('/')[-2]}: {error}", err=True)
            progress()
    click.echo(f"{action}: {count(len(paths) - refused, 'item')} done, {refused} refused")
    if refused:
        sys.exit(1)


@tocsin.group()
def quarantine() -> None:
    """Look after alerts and bodies that could not be used."""


@quarantine.command("list", epilog=examples("tocsin quarantine list"))
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@asks_sidecar
@as_json
def list_quarantine(remote: Remote, *, limit: int, is_json: bool) -> None:
    """List what is in quarantine, newest first, with the reasons."""
    from bridge.app import screen

    items = list(remote.items("/api/v1/quarantine", {}, limit=limit))
    _print_json(items) if is_json else click.echo(screen.quarantine_table(items))


@quarantine.command(
    "show", epilog=examples("tocsin quarantine show 3", "tocsin quarantine show 3 --raw > body.json")
)
@click.argument("number", metavar="ID", type=click.IntRange(1))
@click.option("--raw", is_flag=True, help="Write its bytes as they came, and nothing else.")
@asks_sidecar
@as_json
def show_quarantine(remote: Remote, number: int, *, raw: bool, is_json: bool) -> None:
    """Show one entry of the quarantine with its bytes."""
    import base64

    from bridge.app import screen

    found = remote.get(f"/api/v1/quarantine/{number}")
    if raw:
        body = found.get("body")
        content = base64.b64decode(found["body_base64"]) if body is None else body.encode()
        click.echo(content, nl=False)
    elif is_json:
        _print_json(found)
    else:
        click.echo(screen.quarantine_page(found))


@quarantine.command("replay", epilog=examples("tocsin quarantine replay 3 4"))
@click.argument("numbers", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@asks_sidecar
def replay_quarantine(remote: Remote, numbers: tuple[int, ...]) -> None:
    """Let entries of the quarantine come in once more, as after an upgrade that understands them."""
    _act(remote, [f"/api/v1/quarantine/{number}/replay" for number in numbers], "replay")


# ---- export --------------------------------------------------------------------------------------------


@tocsin.command(
    epilog=examples(
        "tocsin export --format webhooks --out history",
        "tocsin export --format jsonl --since 7d --out report",
        "tocsin export --format webhooks --data /var/lib/tocsin --out history",
    )
)
@click.option("--format", "form", type=click.Choice(["webhooks", "jsonl"]), required=True,
              help="webhooks: what was received, as replay input. jsonl: the incidents.")  # fmt: skip
@since_option
@click.option("--out", type=DIRECTORY, required=True, metavar="DIR", help="Where the file goes.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Read this data directory instead of asking a sidecar; all its tenants.")  # fmt: skip
@asks_sidecar
def export(remote: Remote, *, form: str, since: datetime | None, out: Path, data: Path | None) -> None:
    """Write the history to DIR/webhooks.jsonl or DIR/incidents.jsonl."""
    from bridge.app import exporting
    from bridge.app.screen import Progress, count

    if data is not None:
        lines = exporting.lines_of(data, form, since)
    else:
        lines = remote.lines("/api/v1/export", {"format": form, "since": _rfc3339(since)})
    with Progress("export") as progress:
        path, written = exporting.write(lines, out, form, progress)
    click.echo(f"{path}: {count(written, 'line')}", err=True)


def _quoted(identity: str) -> str:
    from urllib.parse import quote

    return quote(identity, safe="")
