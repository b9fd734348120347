"""Commands that ask a running sidecar, and change it through its API."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.group import examples, tocsin
from bridge.cli.options import as_json, asks_sidecar, print_json, rfc3339, show, since_option

if TYPE_CHECKING:
    from bridge.app.remote import Remote

NOT_FOUND = 404
#: So many incidents are named when the beginning of an id fits several.
AMBIGUOUS = 4
#: Waiting deliveries are counted up to here.
MANY = 1000

# ---- looking -------------------------------------------------------------------------------------------


@tocsin.command(
    short_help="Say how a running sidecar is doing.",
    epilog=examples("tocsin status", "tocsin status --url https://tocsin.example:9195 --token-file token"),
)
@asks_sidecar
@as_json
def status(remote: Remote, *, is_json: bool) -> None:
    """Say how a running sidecar is doing: what it holds and how far behind it is."""
    from bridge.app import screen

    stats = remote.get("/api/v1/stats")
    print_json(stats) if is_json else show(remote, screen.status_page, remote.url, stats)


@tocsin.command(
    short_help="List incidents, or show one whole.",
    epilog=examples(
        "tocsin incidents --state open --severity critical",
        "tocsin incidents --since 24h --json",
        "tocsin incidents 3f0c",
    ),
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
    """List incidents, newest first, or show one INCIDENT whole: the beginning of its id will do."""
    from bridge.app import screen

    if incident is not None:
        found = _incident(remote, incident)
        print_json(found) if is_json else show(remote, screen.incident_page, found)
        return
    asked = {"state": ",".join(state), "severity": severity, "since": rfc3339(since)}
    items = list(remote.items("/api/v1/incidents", asked, limit=limit))
    print_json(items) if is_json else show(remote, screen.incident_table, items)


def _incident(remote: Remote, beginning: str) -> Any:
    """Return the incident of this id, or the only one whose id begins so."""
    from bridge.app.remote import RemoteError
    from bridge.app.screen import listed

    nothing = f"no incident's id begins with {beginning!r}; `tocsin incidents` lists them"
    candidates = remote.items("/api/v1/incidents", {"id": beginning}, limit=AMBIGUOUS)
    try:
        ids = [str(each["incident"]) for each in candidates]
    except KeyError as error:
        raise remote.foreign() from error
    if len(ids) > 1 and beginning not in ids:
        raise RemoteError(f"several incidents' ids begin with {beginning!r}: {listed(ids)}; write more of it")
    if not ids:
        raise RemoteError(nothing)
    return _found(remote, f"/api/v1/incidents/{_quoted(beginning if beginning in ids else ids[0])}", nothing)


def _found(remote: Remote, path: str, nothing: str) -> Any:
    """Return what is at `path`; `nothing` is said where there is none."""
    from bridge.app.remote import RemoteError

    try:
        return remote.get(path)
    except RemoteError as error:
        raise (RemoteError(nothing, status=error.status) if error.status == NOT_FOUND else error) from None


# ---- dead letters and quarantine -----------------------------------------------------------------------


@tocsin.group(
    epilog=examples(
        "tocsin deliveries list", "tocsin deliveries list --state waiting", "tocsin deliveries retry --all"
    )
)
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
    if is_json:
        print_json(items)
    elif items or state != ("dead",):
        show(remote, screen.delivery_table, items)
    else:
        waiting = list(_deliveries(remote, ("waiting",), destination, MANY))
        click.echo(screen.no_dead_letters(len(waiting), at_least=len(waiting) == MANY))


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
    # Listed newest first, done oldest first: as they would have gone.
    chosen = (
        ids
        or [str(each.get("id", "")) for each in _deliveries(remote, ["dead"], destination, sys.maxsize)][::-1]
    )
    nothing = f"no delivery of this id that one can {action}; `tocsin deliveries list --state all` lists them"
    _act(remote, [f"/api/v1/deliveries/{_quoted(each)}/{action}" for each in chosen], action, nothing)


def _act(remote: Remote, paths: list[str], action: str, nothing: str) -> None:
    """Ask for an action on each; one refusal does not keep the others from it. `nothing` is said to a 404."""
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
                why = nothing if error.status == NOT_FOUND else error
                click.echo(f"{path.split('/')[-2]}: {why}", err=True)
            progress()
    click.echo(f"{action}: {count(len(paths) - refused, 'item')} done, {refused} refused")
    if refused:
        sys.exit(1)


@tocsin.group(
    epilog=examples(
        "tocsin quarantine list", "tocsin quarantine show 3 --raw > body.json", "tocsin quarantine replay 3"
    )
)
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
    print_json(items) if is_json else show(remote, screen.quarantine_table, items)


@quarantine.command(
    "show", epilog=examples("tocsin quarantine show 3", "tocsin quarantine show 3 --raw > body.json")
)
@click.argument("number", metavar="ID", type=click.IntRange(1))
@click.option("--raw", is_flag=True, help="Write its bytes as they came, and nothing else.")
@asks_sidecar
@as_json
def show_quarantine(remote: Remote, number: int, *, raw: bool, is_json: bool) -> None:
    """Show one entry of the quarantine with its bytes."""
    from bridge.app import screen

    nothing = f"nothing in quarantine has the id {number}; `tocsin quarantine list` lists what is there"
    found = _found(remote, f"/api/v1/quarantine/{number}", nothing)
    if raw:
        click.echo(_bytes(remote, found), nl=False)
    else:
        print_json(found) if is_json else show(remote, screen.quarantine_page, found)


def _bytes(remote: Remote, found: Any) -> bytes:
    """Return the bytes of an entry of the quarantine."""
    import base64

    try:
        body = found.get("body")
        return base64.b64decode(found["body_base64"]) if body is None else str(body).encode()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise remote.foreign() from error


@quarantine.command(
    "replay", short_help="Let entries come in once more.", epilog=examples("tocsin quarantine replay 3 4")
)
@click.argument("numbers", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1))
@asks_sidecar
def replay_quarantine(remote: Remote, numbers: tuple[int, ...]) -> None:
    """Let entries of the quarantine come in once more, as after an upgrade that understands them."""
    nothing = "nothing of this id is in quarantine; `tocsin quarantine list` lists what is there"
    _act(remote, [f"/api/v1/quarantine/{number}/replay" for number in numbers], "replay", nothing)


def _quoted(identity: str) -> str:
    from urllib.parse import quote

    return quote(identity, safe="")
