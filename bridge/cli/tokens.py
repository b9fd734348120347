"""Commands that mint, list and revoke API tokens, in the directory of the stores."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from bridge.cli.group import examples, tocsin
from bridge.cli.options import DIRECTORY, FILE, Command, as_json, duration_of, print_json


def has_stores(command: Command) -> Command:
    """Give a command `--config` and `--data`, which say where the stores are."""
    for option in (
        click.option(
            "--data", type=DIRECTORY, help="Directory of the stores, in place of the configuration's."
        ),
        click.option("--config", "-c", type=FILE, help="The configuration that the sidecar runs with."),
    ):
        command = option(command)
    return command


@tocsin.group(
    invoke_without_command=True,
    short_help="Mint an API token, list them, revoke one.",
    epilog=examples(
        "tocsin token --tenant default --role viewer --expires 90d",
        "tocsin token --tenant acme --role admin --config /etc/tocsin/tocsin.yaml",
        "tocsin token list",
        "tocsin token revoke 0123456789abcdef",
    ),
)
@click.option("--tenant", help="Whose token it is; a tenant of the configuration.")
@click.option("--role", type=click.Choice(["sender", "viewer", "responder", "admin"]), help="What it may do.")
@click.option(
    "--expires", default="30d", show_default=True, callback=duration_of, help="When it ends, at most 365d."
)
@has_stores
@as_json
@click.pass_context
def token(
    context: click.Context,
    *,
    tenant: str | None,
    role: str | None,
    expires: float,
    config: Path | None,
    data: Path | None,
    is_json: bool,
) -> None:
    """Mint an API token for a tenant and print it, once: it is kept nowhere. A running sidecar believes it at once.

    Run it as the user that the sidecar runs as, on its machine: who may write its directory of stores may mint.
    """
    if context.invoked_subcommand is not None:
        return
    if tenant is None or role is None:
        raise click.UsageError("a token needs --tenant and --role")
    from bridge.app import minting

    folder = minting.folder_of(config, data, tenant)
    now = minting.now()
    text, made = minting.mint(
        folder, tenant=tenant, role=minting.role_of(role), now=now, until=now + timedelta(seconds=expires)
    )
    if is_json:
        print_json({"token": text, **minting.record(made)})
        return
    click.echo(text)
    click.echo(
        f"It is {made.id}, for {tenant} as {role}, until {made.expires_at:%Y-%m-%d %H:%M} UTC.", err=True
    )


@token.command(
    "list", short_help="List the tokens that were minted.", epilog=examples("tocsin token list --json")
)
@has_stores
@as_json
def list_tokens(*, config: Path | None, data: Path | None, is_json: bool) -> None:
    """List the tokens that were minted, oldest first: whose, until when, and whether they are revoked."""
    from bridge.app import minting, screen

    found = [minting.record(each) for each in minting.minted(minting.folder_of(config, data, None))]
    print_json(found) if is_json else click.echo(screen.token_table(found))


@token.command(
    "revoke", short_help="Revoke a token.", epilog=examples("tocsin token revoke 0123456789abcdef")
)
@click.argument("id", metavar="ID")
@has_stores
@as_json
def revoke(*, id: str, config: Path | None, data: Path | None, is_json: bool) -> None:  # noqa: A002 - as it is called
    """Revoke the token of this ID: a running sidecar lets it in no more within a second."""
    from bridge.app import minting

    revoked = minting.revoke(minting.folder_of(config, data, None), id, now=minting.now())
    print_json(minting.record(revoked)) if is_json else click.echo(f"{id} is revoked.")
