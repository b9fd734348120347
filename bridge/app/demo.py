"""`tocsin demo`: a real sidecar, a storm through real HTTP, and on one screen what came in and what went out.

Rules: nothing is staged. The sidecar is the program itself in a process of its own, its incidents come out of
its file destination and its API. Everything is on loopback and in a temporary directory; whatever happens,
the process is ended and the directory removed. What is shown is plain lines, so that it reads the same in a
terminal, a log and a pipe; on a terminal one line more counts along.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bridge.app.remote import Remote, RemoteError
from bridge.app.screen import count, plain, severity_of, span, suspect_of, when
from bridge.app.storm import SCENES, Call, calls
from bridge.errors import TocsinError

START_S = 20.0
CLOSE_S = 25.0
STOP_S = 15.0
LOOK_S = 0.1
REASONS = 3
WIDTH = 96
#: The usual settings, but for a quick end: people watch.
CONFIGURATION = """\
listen: 127.0.0.1:{port}
storage: {{path: "{folder}/data"}}
analysis: {{close_after: 2s}}
destinations: [{{name: file, kind: file, path: "{folder}/incidents.jsonl"}}]
routes: [{{to: [file]}}]
"""


class DemoError(TocsinError):
    """The demo cannot go on."""


def play(*, keep: bool, speed: float = 1.0) -> int:
    """Play the demo, `speed` times as fast as it is meant; return the exit code.

    Raises:
        DemoError: The sidecar did not start, or did not answer.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal must not leave a sidecar behind
        signal.signal(number, _interrupt)
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-demo-")))
            port = _free_port()
            click.echo(_HEADING)
            stack.enter_context(_sidecar(folder, port))
            Demo(folder, port).run(speed)
        except KeyboardInterrupt:
            click.echo("\nstopped")
            return 130
        if keep:
            _stay(port)
    return 0


class Demo:
    """One showing: what was sent, and what was heard."""

    def __init__(self, folder: Path, port: int) -> None:
        self._remote = Remote(f"http://127.0.0.1:{port}")
        self._port = port
        self._heard = _Follower(folder / "incidents.jsonl")
        self._is_live = sys.stdout.isatty()
        self.webhooks = self.alerts = self.messages = 0
        self.different: set[str] = set()
        self.by_peer = 0

    def run(self, speed: float) -> None:
        """Play the storm, wait for its end, and sum up."""
        began = time.monotonic()
        script = list(calls(datetime.now(UTC), speed))
        scenes = list(SCENES)
        while script:
            now_s = (time.monotonic() - began) * speed
            while scenes and scenes[0][0] <= now_s:
                self._say(f"\n{click.style(scenes.pop(0)[1], bold=True)}")
            while script and script[0].at_s <= now_s:
                self._send(script.pop(0))
            self._hear()
            self._count_along()
            time.sleep(LOOK_S)
        self._wait_for_close(time.monotonic() + CLOSE_S)
        self._say("")
        click.echo(self._last_screen())

    def _send(self, call: Call) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        headers = {"Content-Type": "application/json", "User-Agent": "Alertmanager/0.28.1"}
        try:
            connection.request("POST", "/v1/alertmanager", call.body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except OSError as error:
            raise DemoError(f"the sidecar of the demo does not answer: {error}") from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise DemoError(f"the sidecar of the demo answered {answer.status}: {said[:200].decode()}")
        self.webhooks += 1
        self.alerts += call.firing + call.resolved
        self.by_peer += call.peer.startswith("http://alertmanager-1")
        self.different.update(call.fingerprints)
        what = f"{call.firing} firing" if call.firing else f"{call.resolved} resolved"
        self._say(
            f"  {_clock()}  in   {call.group:36} {what:>11}{'  (again, by the second)' * _is_again(call)}"
        )

    def _hear(self) -> None:
        for event in self._heard.events():
            self.messages += 1
            incident = event["incident"]
            title = f"{plain(incident['title'])}"
            word = click.style(f"{event['kind']:9}", bold=True)
            self._say(f"  {_clock()}  {click.style('OUT', fg='green', bold=True)}  {word} "
                      f"{severity_of(incident['severity'])}  {title}")  # fmt: skip

    def _wait_for_close(self, until: float) -> None:
        """Wait until the storm's incident is closed; the certificate's goes on, as it should."""
        while time.monotonic() < until:
            self._hear()
            self._count_along()
            items = self._remote.get("/api/v1/incidents")["items"]
            if items and not any(
                each["severity"] == "critical" and each["closed_at"] is None for each in items
            ):
                self._hear()
                return
            time.sleep(LOOK_S)

    def _say(self, line: str) -> None:
        click.echo(("\r\x1b[K" if self._is_live else "") + line)

    def _count_along(self) -> None:
        if self._is_live:
            sums = f"{count(self.webhooks, 'webhook')}, {count(self.alerts, 'alert')} in; "
            click.echo(f"\r\x1b[K  {sums}{count(self.messages, 'message')} out", nl=False)

    def _last_screen(self) -> str:
        items = self._remote.get("/api/v1/incidents")["items"]
        wholes = [self._remote.get(f"/api/v1/incidents/{each['incident']}") for each in items]
        wholes.sort(key=lambda each: -len(each["episodes"]))
        came = f"{count(self.webhooks, 'webhook')} with {count(self.alerts, 'alert')}"
        lines = [
            "─" * WIDTH,
            f"Came in:   {came}: {len(self.different)} different ones, the others resends and resolves;",
            f"           {self.by_peer} of the webhooks were a second Alertmanager's.",
            f"Went out:  {count(len(wholes), 'incident')} in {count(self.messages, 'message')}.",
        ]
        for each in wholes:
            lines += ["", *_incident_lines(each)]
        return "\n".join([*lines, "─" * WIDTH, _ENDING])


def _incident_lines(found: dict[str, Any]) -> Iterator[str]:
    """Return an incident for the last screen: what, how long, what came first, why together."""
    yield f"{severity_of(found['severity'])}  {click.style(plain(found['title']), bold=True)}"
    if found["closed_at"]:
        lasted = datetime.fromisoformat(found["closed_at"]) - datetime.fromisoformat(found["opened_at"])
        yield f"  {found['state']}, lasted {span(lasted.total_seconds())}"
    else:
        yield f"  {found['state']} since {when(found['opened_at'])}, an incident of its own"
    yield from _wrapped(found["summary"], "  ", "  ")
    if len(found["episodes"]) > 1:
        yield from _wrapped(f"Probably came first: {suspect_of(found, found['root'][0])}", "  ", "    ")
        yield "  Why they are one incident, for example:"
        for text in _reasons(found):
            yield from _wrapped(text, "    ", "      ")


def _wrapped(text: str, first: str, others: str) -> list[str]:
    width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
    return textwrap.wrap(plain(text), width, initial_indent=first, subsequent_indent=others)


def _reasons(found: dict[str, Any]) -> list[str]:
    """Return why some alerts joined, of different kinds."""
    by_name: dict[str, str] = {}
    for each in found["episodes"][1:]:
        by_name.setdefault(each["labels"].get("alertname", ""), each["why"])
    kinds = Counter(each["labels"].get("alertname", "") for each in found["episodes"])
    largest = [name for name, _ in kinds.most_common() if name in by_name]
    return [plain(f"{name}: {by_name[name]}") for name in largest[:REASONS]]


class _Follower:
    """Reads the events of a file destination as they are written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._seen: set[str] = set()

    def events(self) -> Iterator[dict[str, Any]]:
        """Return the events since the last call, each once."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                event = json.loads(line)
                if event["event_id"] not in self._seen:
                    self._seen.add(event["event_id"])
                    yield event


@contextmanager
def _sidecar(folder: Path, port: int) -> Iterator[None]:
    """Run a sidecar; it is ready when the block begins and has ended after it."""
    configuration = folder / "tocsin.yaml"
    configuration.write_text(CONFIGURATION.format(port=port, folder=folder), encoding="utf-8")
    command = [sys.executable, "-m", "bridge", "serve", "--config", str(configuration)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    # Not our terminal's group: Ctrl-C is for the demo, which then ends the sidecar in order.
    with (folder / "log").open("wb") as log, subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        env=kept | {"TMPDIR": str(folder)},  # torch leaves a folder there
    ) as process:  # fmt: skip
        try:
            _wait_until_ready(process, port, folder / "log")
            yield
        finally:
            _end(process)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    remote = Remote(f"http://127.0.0.1:{port}", timeout_s=2.0)
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            remote.get("/api/v1/stats")
        except RemoteError:
            time.sleep(LOOK_S)
        else:
            return
    tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise DemoError(f"the sidecar of the demo did not start; it said:\n{tail}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end is under way: impatience changes nothing
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _stay(port: int) -> None:
    click.echo(f"\nThe sidecar still runs at http://127.0.0.1:{port}; look around, for example:")
    click.echo(f"  tocsin incidents --url http://127.0.0.1:{port}")
    click.echo("Ctrl-C ends it.")
    with suppress(KeyboardInterrupt):
        while True:
            signal.pause()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_again(call: Call) -> bool:
    return call.peer.startswith("http://alertmanager-1")


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S")


_HEADING = """\
Tocsin demo: the database of a shop fails. Two Alertmanagers send what they see (in);
Tocsin works out what belongs together and tells it once (OUT)."""
_ENDING = """\
This is what Tocsin does: many alerts in, few explained incidents out, none lost.
To run it: `tocsin serve`, then point a webhook receiver of your Alertmanager at
http://127.0.0.1:9195/v1/alertmanager. `tocsin serve --help` says more."""
