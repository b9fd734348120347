"""The command that erases what is known of a label, an alert or a tenant."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.group import examples, tocsin
from bridge.cli.options import as_json, asks_sidecar, moment_of, print_json, rfc3339

if TYPE_CHECKING:
    from bridge.app.remote import Remote

#: How often it is asked whether an erasure is done, and for how long.
ASK_S, PATIENCE_S = 0.5, 3600.0


@tocsin.command(
    short_help="Erase what is known of a label, an alert or a tenant.",
    epilog=examples(
        "tocsin erase --tenant default --label instance=alice-laptop:9100 --dry-run",
        "tocsin erase --tenant default --label instance=alice-laptop:9100",
        "tocsin erase --tenant acme --before 90d --yes",
    ),
)
@click.option("--tenant", required=True, help="Whose data it is: the tenant of the token.")
@click.option(
    "--label", metavar="NAME=VALUE", help="Alerts that carry this label, and the value in all texts."
)
@click.option("--fingerprint", metavar="F", help="The alert of this fingerprint.")
@click.option("--before", metavar="TIME", callback=moment_of,
              help="Only what came before: 2026-01-31T12:00:00Z, or 90d for ninety days ago.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only count what would be erased.")
@click.option("--yes", is_flag=True, help="Do not ask whether it is meant.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until it is in no file any more."
)
@asks_sidecar
@as_json
def erase(  # noqa: PLR0913 - options of a command
    remote: Remote,
    *,
    tenant: str,
    label: str | None,
    fingerprint: str | None,
    before: datetime | None,
    dry_run: bool,
    yes: bool,
    wait: bool,
    is_json: bool,
) -> None:
    """Erase what is known of a label, an alert or, without either, of a whole tenant, in a running sidecar.

    Incidents of which nothing is left stay as empty places. What was delivered elsewhere cannot be taken back.
    """
    from bridge.app import screen

    wish = _wish(tenant, label, fingerprint, before)
    found = _counts(remote, remote.post("/api/v1/erase", _body({**wish, "dry_run": True})))
    if dry_run:
        print_json({"dry_run": True, "counts": found}) if is_json else click.echo(screen.erase_line(found))
        return
    if not yes:
        click.echo(screen.erase_line(found), err=True)
        click.confirm("It cannot be undone. Erase it?", abort=True, err=True)
    asked = remote.post("/api/v1/erase", _body(wish))
    counts, name = _counts(remote, asked), str(asked.get("id", ""))
    is_done = wait and _wait(remote, name)
    if is_json:
        print_json({"id": name, "state": "done" if is_done else "working", "counts": counts})
        return
    click.echo(f"{name}: {screen.erase_line(counts)}")
    click.echo(
        "It is in none of the stores any more." if is_done else "It is under way: GET /api/v1/erase lists it."
    )


def _wish(tenant: str, label: str | None, fingerprint: str | None, before: datetime | None) -> dict[str, Any]:
    if label is not None and fingerprint is not None:
        raise click.UsageError("name --label or --fingerprint, not both")
    wish: dict[str, Any] = {"tenant": tenant}
    if label is not None:
        name, mark, value = label.partition("=")
        if not name or not mark or not value:
            raise click.UsageError("--label is written NAME=VALUE")
        wish["label"] = {"name": name, "value": value}
    if fingerprint is not None:
        wish["fingerprint"] = fingerprint
    if before is not None:
        wish["before"] = rfc3339(before)
    return wish


def _body(wish: dict[str, Any]) -> bytes:
    return json.dumps(wish).encode()


def _counts(remote: Remote, answer: Any) -> dict[str, int]:
    counts = answer.get("counts") if isinstance(answer, dict) else None
    if not isinstance(counts, dict) or not all(isinstance(each, int) for each in counts.values()):
        raise remote.foreign()
    return counts


def _wait(remote: Remote, name: str) -> bool:
    """Wait until an erasure is done; return whether it is."""
    import time

    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            states = {each["id"]: each["state"] for each in remote.get("/api/v1/erase")["items"]}
        except (KeyError, TypeError) as error:
            raise remote.foreign() from error
        if states.get(name) == "done":
            return True
        time.sleep(ASK_S)
    return False
