"""Commands that ask a running sidecar, and change it through its API."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.group import examples, tocsin
from bridge.cli.options import as_json, asks_sidecar, print_json, rfc3339, since_option

if TYPE_CHECKING:
    from bridge.app.remote import Remote

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
        print_json(stats)
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
        print_json(found) if is_json else click.echo(screen.incident_page(found))
        return
    asked = {"state": ",".join(state), "severity": severity, "since": rfc3339(since)}
    items = list(remote.items("/api/v1/incidents", asked, limit=limit))
    print_json(items) if is_json else click.echo(screen.incident_table(items))


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
    print_json(items) if is_json else click.echo(screen.delivery_table(items))


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
    print_json(items) if is_json else click.echo(screen.quarantine_table(items))


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
        print_json(found)
    else:
        click.echo(screen.quarantine_page(found))


@quarantine.command("replay", epilog=examples("tocsin quarantine replay 3 4"))
@click.argument("numbers", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@asks_sidecar
def replay_quarantine(remote: Remote, numbers: tuple[int, ...]) -> None:
    """Let entries of the quarantine come in once more, as after an upgrade that understands them."""
    _act(remote, [f"/api/v1/quarantine/{number}/replay" for number in numbers], "replay")


def _quoted(identity: str) -> str:
    from urllib.parse import quote

    return quote(identity, safe="")
