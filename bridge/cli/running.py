"""Commands that run something here: the sidecar, a check, the demo, a replay, scores, an export."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.group import examples, tocsin
from bridge.cli.options import (
    DIRECTORY,
    FILE,
    OUTPUT,
    as_json,
    asks_sidecar,
    duration_of,
    moment_of,
    needs_stdout,
    print_json,
    rfc3339,
    since_option,
)

if TYPE_CHECKING:
    from bridge.app.remote import Remote


@tocsin.command(
    short_help="Run the sidecar.",
    epilog=examples(
        "tocsin serve",
        "tocsin serve --config /etc/tocsin/tocsin.yaml --listen 0.0.0.0:9195 --data /var/lib/tocsin",
    ),
)
@click.option("--config", "-c", type=FILE, help="The configuration; without one it runs on loopback only.")
@click.option("--listen", metavar="ADDRESS", help="host:port, in place of the configuration's.")
@click.option("--data", type=DIRECTORY, help="Directory of the stores, in place of the configuration's.")
def serve(config: Path | None, listen: str | None, data: Path | None) -> None:
    """Run the sidecar until it is stopped (SIGTERM or Ctrl-C). SIGHUP reads the configuration anew."""
    from bridge.app.running import serve as run

    sys.exit(run(config, listen=listen, data=data))


@tocsin.command(
    short_help="Check a configuration, its destinations, and send a test.",
    epilog=examples(
        "tocsin check tocsin.yaml",
        "tocsin check tocsin.yaml --connect",
        "tocsin check tocsin.yaml --send-test siem",
    ),
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
        print_json(checking.schema())
        return
    if file is None:
        raise click.UsageError("name the configuration FILE to check")
    if is_json:
        answer = checking.check(file, connect=connect, send_test=send_test)
        print_json(answer.record())
    else:
        answer = checking.check(file, connect=connect, send_test=send_test, say=click.echo)
    sys.exit(0 if answer.good else 1)


@tocsin.command(
    short_help="Watch it work: a storm of alerts, and what comes out.",
    epilog=examples("tocsin demo", "tocsin demo --keep"),
)
@click.option("--keep", is_flag=True, help="Keep the sidecar running at the end, to look around.")
def demo(*, keep: bool) -> None:
    """Start a sidecar, play a storm at it through real HTTP, and show what came in and what went out.

    Takes about 45 seconds, needs nothing, touches nothing and cleans up after itself.
    """
    from bridge.app.demo import play

    sys.exit(play(keep=keep))


@tocsin.command(
    short_help="Put recorded webhooks through the analysis again.",
    epilog=examples(
        "tocsin replay webhooks.jsonl --incidents incidents.jsonl",
        "tocsin replay webhooks.jsonl --topology topology.yaml",
        "tocsin export --format webhooks --out history && tocsin replay history/webhooks.jsonl",
        "zcat old.jsonl.gz | tocsin replay - --config tocsin.yaml --events events.jsonl",
        "tocsin replay webhooks.jsonl --feedback corrections.jsonl --incidents incidents.jsonl",
        "tocsin replay history/webhooks.jsonl --report models.html",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--config", "-c", type=FILE, help="Think as this configuration says, whatever was recorded.")
@click.option(
    "--topology", type=FILE, help="Who calls whom, in place of what was recorded; docs/topology.md."
)
@click.option("--tenant", default="default", show_default=True, help="Tenant of lines that name none.")
@click.option("--feedback", type=FILE, help="What people said of the incidents, as JSON lines, by its time.")
@click.option("--incidents", type=OUTPUT, metavar="OUT", help="Write the final incidents as JSON lines.")
@click.option("--events", type=OUTPUT, metavar="OUT", help="Write every event as JSON lines.")
@click.option("--until", metavar="TIME", callback=moment_of, help="Let time run to here after the last line.")
@click.option(
    "--store", type=DIRECTORY, metavar="DIR", help="Keep the state; `serve --data DIR` goes on from it."
)
@click.option(
    "--report", type=OUTPUT, metavar="F", help="Write a page on the models, with plots: one HTML file."
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
        print_json(summary.record())
    else:
        click.echo(summary.text())
    sys.exit(1 if summary.bad_lines else 0)


@tocsin.command(
    short_help="Say how strange each value of a series was.",
    epilog=examples(
        "tocsin score latency.csv",
        "tocsin score latency.csv --out scores.csv",
        "tocsin score metrics --out scores",
    ),
)
@click.argument("path", type=click.Path(exists=True, path_type=Path), metavar="FILE.csv|DIR")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE|DIR",
    help="Write there in place of stdout; of a DIR a mirror, file by file.",
)  # fmt: skip
def score(path: Path, out: Path | None) -> None:
    """Score each row of FILE.csv (`timestamp,value`), or of every .csv file in DIR, by the rows before it.

    Out comes `timestamp,value,score,model`: a score between 0 and 1, higher is stranger, empty while there is too
    little history or where the value is no number. Timestamps are epoch seconds or ISO 8601, UTC if they name no zone.
    What the rows so far are like chooses the detector, again each 288 rows; a million rows take some minutes.
    """
    from bridge.app import scoring
    from bridge.app.screen import Progress

    if path.is_dir() and (out is None or out.is_file()):
        raise click.UsageError("name the directory that the scores of a DIR go to with --out")
    needs_stdout(out)
    with Progress("score") as progress:
        is_good = scoring.run(
            path, out, say=lambda fault: click.echo(fault, err=True), told=sys.stdout, progress=progress
        )
    sys.exit(0 if is_good else 1)


@tocsin.command(
    short_help="What would have been forecast for a file of events.",
    epilog=examples(
        "tocsin backtest events.csv --out forecasts.csv",
        "tocsin backtest events.csv --horizon 1d --step 6h",
    ),
)
@click.argument("events", type=FILE, metavar="EVENTS.csv")
@click.option("--horizon", default="4h", show_default=True, callback=duration_of, metavar="SPAN",
              help="How far ahead: 15m, 4h, 2d.")  # fmt: skip
@click.option("--step", default="1h", show_default=True, callback=duration_of, metavar="SPAN",
              help="From one origin to the next.")  # fmt: skip
@click.option("--out", type=OUTPUT, metavar="F", help="Write here instead of to stdout.")
def backtest(events: Path, *, horizon: float, step: float, out: Path | None) -> None:
    """Say at each origin how likely it is that an event begins within the horizon, from what was known then.

    EVENTS.csv has the header start[,end,entity,severity,text]; times are seconds since 1970 or RFC 3339. Out come
    origin,probability,published,model. published is 0 where the models had not earned trust: what is given is then
    the adaptive rate by the hour of the week. No line depends on what came after its origin.
    """
    from bridge.app.backtesting import backtest as run

    needs_stdout(out)
    run(events, horizon_s=horizon, step_s=step, out=out, say=lambda text: click.echo(text, err=True))


@tocsin.command(
    short_help="Write the history to files.",
    epilog=examples(
        "tocsin export --format webhooks --out history",
        "tocsin export --format jsonl --since 7d --out report",
        "tocsin export --format csv --since 30d --out report",
        "tocsin export --format webhooks --data /var/lib/tocsin --out history",
    ),
)
@click.option("--format", "form", type=click.Choice(["webhooks", "jsonl", "csv", "parquet"]), required=True,
              help="webhooks: what was received, as replay input. jsonl: the incidents; csv, parquet: as a"
                   " table.")  # fmt: skip
@since_option
@click.option("--out", type=DIRECTORY, required=True, metavar="DIR", help="Where the file goes.")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Read this data directory instead of asking a sidecar; all its tenants.")  # fmt: skip
@asks_sidecar
def export(remote: Remote, *, form: str, since: datetime | None, out: Path, data: Path | None) -> None:
    """Write the history to DIR/webhooks.jsonl or DIR/incidents.jsonl, or a table to DIR/incidents.csv or .parquet."""
    from bridge.app import exporting
    from bridge.app.screen import Progress, count

    if form in exporting.TABLES:
        asked = {"since": rfc3339(since)}
        rows = (
            exporting.rows_of(data, since)
            if data is not None
            else remote.items("/api/v1/bi/incidents", asked, limit=sys.maxsize)
        )
        with Progress("export") as progress:
            path, written = exporting.table(rows, out, form, progress)
        click.echo(f"{path}: {count(written, 'row')}", err=True)
        return
    if data is not None:
        lines = exporting.lines_of(data, form, since)
    else:
        lines = remote.lines("/api/v1/export", {"format": form, "since": rfc3339(since)})
    with Progress("export") as progress:
        path, written = exporting.write(lines, out, form, progress)
    click.echo(f"{path}: {count(written, 'line')}", err=True)
