"""`tocsin demo`: a real sidecar, a storm through real HTTP, and on one screen what came in and what went out.

Rules: nothing is staged. The sidecar is the program itself in a process of its own, its incidents come out of
its file destination and its API, and the message at the end is made by the Slack connector. Everything is on
loopback and in a temporary directory; whatever happens, the process is ended and the directory removed. What is
shown is plain lines, so that it reads the same in a terminal, a log and a pipe; on a terminal one line more
counts along. What comes in is shown by its first lines only: what goes out must not drown.
"""

from __future__ import annotations

import html
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

import connectors
from bridge.app.remote import Remote, RemoteError
from bridge.app.replay import Wishes, replay
from bridge.app.screen import count, plain, severity_of, span, suspect_of, when
from bridge.app.storm import REPAIRED_AT_S, SCENES, Call, calls, past
from bridge.errors import TocsinError
from bridge.model import FOUNDED, Event, EventKind
from bridge.ports import Http

START_S = 20.0
#: How long the storm waits for the incident's update, and then for its end, on a slow machine.
UPDATE_S = 20.0
CLOSE_S = 25.0
STOP_S = 15.0
LOOK_S = 0.1
#: So many webhooks of a scene get a line each; the others share one, so often that it is seen to go on.
LINES = 3
FOLD_S = 8.0
REASONS = 2
WIDTH = 96
#: The usual settings, but for a quick end, since people watch, and windows that do not end while they do.
CONFIGURATION = """\
listen: 127.0.0.1:{port}
storage: {{path: "{folder}/data"}}
analysis: {{close_after: 2s, count_windows: [1d]}}
destinations: [{{name: file, kind: file, path: "{folder}/incidents.jsonl"}}]
routes: [{{to: [file]}}]
"""


class DemoError(TocsinError):
    """The demo cannot go on."""


def play(*, keep: bool) -> int:
    """Play the demo; return the exit code.

    Raises:
        DemoError: The sidecar did not start, or did not answer.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode loses some signs, not the demo
    for number in (signal.SIGTERM, signal.SIGHUP):  # a closed terminal must not leave a sidecar behind
        signal.signal(number, _interrupt)
    with ExitStack() as stack:
        try:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-demo-")))
            port = _free_port()
            click.echo(_HEADING)
            _live_through_the_past(folder)
            stack.enter_context(_sidecar(folder, port))
            Demo(folder, port).run()
        except KeyboardInterrupt:
            click.echo("\nstopped")
            return 130
        if keep:
            _stay(port)
    return 0


class Demo:
    """One showing: what was sent, and what was heard."""

    def __init__(self, folder: Path, port: int) -> None:
        self._since = datetime.now(UTC)
        self._remote = Remote(f"http://127.0.0.1:{port}")
        self._port = port
        self._heard = _Follower(folder / "incidents.jsonl")
        self._is_live = sys.stdout.isatty()
        self._shown = 0  # webhooks of this scene that had a line
        self._folded: list[Call] = []  # and those that have none yet
        self._folding_since_s = 0.0
        self._told: dict[EventKind, Event] = {}  # of the storm's incident: the newest event of each kind
        self.webhooks = self.alerts = self.messages = 0
        self.different: set[str] = set()
        self.by_peer = 0

    def run(self) -> None:
        """Play the storm, wait for its end, and sum up."""
        began = time.monotonic()
        script = list(calls(datetime.now(UTC)))
        scenes = list(SCENES)
        patience = began + REPAIRED_AT_S + UPDATE_S
        while script:
            now_s = time.monotonic() - began
            if now_s >= REPAIRED_AT_S and EventKind.UPDATED not in self._told and time.monotonic() < patience:
                now_s = REPAIRED_AT_S - LOOK_S  # the repair waits, or nobody sees the incident at its height
                began = time.monotonic() - now_s
            while scenes and scenes[0][0] <= now_s:
                self._begin_scene(scenes.pop(0)[1])
            while script and script[0].at_s <= now_s:
                self._send(script.pop(0))
            self._hear()
            self._count_along()
            time.sleep(LOOK_S)
        self._wait_for_close(time.monotonic() + CLOSE_S)
        self._say("")
        click.echo(self._last_screen())

    def _begin_scene(self, text: str) -> None:
        self._unfold()
        self._shown = 0
        self._say(f"\n{click.style(text, bold=True)}")

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
        if self._shown == LINES:
            self._fold(call)
            return
        self._shown += 1
        again = "  (again, by the second)" * _is_again(call)
        self._say(f"  {_clock()}  in   {call.group:36} {_states([call]):>11}{again}")

    def _fold(self, call: Call) -> None:
        now_s = time.monotonic()
        if not self._folded:
            self._folding_since_s = now_s
        self._folded.append(call)
        if now_s - self._folding_since_s >= FOLD_S:
            self._unfold()

    def _unfold(self) -> None:
        """Show in one line what came in without a line of its own."""
        if self._folded:
            more = count(len(self._folded), "more webhook")
            self._say(f"  {_clock()}  in   … {more}: {_states(self._folded)}")
            self._folded = []

    def _hear(self) -> None:
        for event in self._heard.events():
            self._unfold()
            self.messages += 1
            incident = event.incident
            if incident.severity == "critical":
                self._told[event.kind] = event
            word = click.style(f"{event.kind.value:9}", bold=True)
            self._say(f"  {_clock()}  {click.style('OUT ==>', fg='green', bold=True)}  {word} "
                      f"{severity_of(incident.severity)}  {plain(incident.title)}")  # fmt: skip

    def _wait_for_close(self, until: float) -> None:
        """Wait until the end of the storm's incident was heard; the certificate's goes on, as it should."""
        while time.monotonic() < until and EventKind.CLOSED not in self._told:
            self._hear()
            self._count_along()
            time.sleep(LOOK_S)
        self._unfold()

    def _say(self, line: str) -> None:
        click.echo(("\r\x1b[K" if self._is_live else "") + line)

    def _count_along(self) -> None:
        if self._is_live:
            sums = f"{count(self.webhooks, 'webhook')}, {count(self.alerts, 'alert')} in; "
            click.echo(f"\r\x1b[K  {sums}{count(self.messages, 'message')} out", nl=False)

    def _last_screen(self) -> str:
        since = quote(self._since.isoformat())
        items = self._remote.get(f"/api/v1/incidents?since={since}")["items"]
        wholes = [self._remote.get(f"/api/v1/incidents/{each['incident']}") for each in items]
        wholes.sort(key=lambda each: -len(each["episodes"]))
        came = f"{count(self.webhooks, 'webhook')} with {count(self.alerts, 'alert')}"
        lines = [
            "─" * WIDTH,
            f"Came in:   {came}: {len(self.different)} different ones, the others resends and resolves;",
            f"           {self.by_peer} of the webhooks were a second Alertmanager's.",
            f"Went out:  {count(len(wholes), 'incident')} in {count(self.messages, 'message')}.",
            "",
            *self._message(),
        ]
        for each in wholes:
            lines += ["", *_incident_lines(each)]
        lines += ["", *forecast_lines(self._remote.get("/api/v1/forecasts"))]
        return "\n".join([*lines, "─" * WIDTH, _ENDING])

    def _message(self) -> Iterator[str]:
        """Return the incident at its height as a chat shows it."""
        shown = self._told.get(EventKind.UPDATED) or self._told.get(EventKind.OPENED)
        if shown is not None:
            yield "In a chat all of this is one message, kept up to date. At its height it said:"
            for text in as_in_chat(shown):
                yield from _wrapped(text, "  │ ", "  │   ")


def _incident_lines(found: dict[str, Any]) -> Iterator[str]:
    """Return an incident for the last screen: what, how long, and why together."""
    yield f"{severity_of(found['severity'])}  {click.style(plain(found['title']), bold=True)}"
    if found["closed_at"]:
        lasted = datetime.fromisoformat(found["closed_at"]) - datetime.fromisoformat(found["opened_at"])
        yield f"  {found['state']}, lasted {span(lasted.total_seconds())}"
    else:
        yield f"  {found['state']} since {when(found['opened_at'])}, an incident of its own"
    if found["anomaly"] is not None:
        yield from _wrapped(f"Anomaly score {found['anomaly']:.2f}: {found['anomaly_reason']}", "  ", "    ")
    if len(found["episodes"]) > 1:
        yield from _wrapped(f"Probably came first: {suspect_of(found, found['root'][0])}", "  ", "    ")
        yield "  Why they are one incident, for example:"
        for text in _reasons(found):
            yield from _wrapped(text, "    ", "      ")


def forecast_lines(told: dict[str, Any]) -> Iterator[str]:
    """Return what is forecast of any incident, and what moved it or why nothing is claimed."""
    newest = next((each for each in told["items"] if each["aim"] == "any"), None)
    if newest is None:
        yield f"Looking ahead: nothing yet, {told['lacking']}."
        return
    likely = f"{newest['probability']:.0%} likely until {when(newest['until'])}"
    expected = f"{newest['expected_low']:.0f} to {newest['expected_high']:.0f} are expected"
    yield f"Looking ahead: another incident is {likely}, {expected}."
    if newest["published"]:
        for reason in newest["reasons"]:
            yield from _wrapped(reason, "  ", "    ")
    else:
        yield from _wrapped(f"Not published, {newest['why_silent']}", "  ", "    ")


def as_in_chat(event: Event) -> Iterator[str]:
    """Return the lines of the message that the Slack connector makes of an event, without its markup."""
    settings = {"name": "chat", "kind": "slack", "url": "https://chat.example.com/"}
    kind = connectors.load("slack")
    request = kind(kind.Settings.model_validate(settings)).render([event], None, "").request
    blocks = json.loads(request.body)["blocks"] if isinstance(request, Http) else []
    for block in blocks:
        texts = block.get("elements") or [block["text"]]
        for line in "\n".join(each["text"] for each in texts).splitlines():
            # `<!date^...|text>` and `<url|text>` are shown as their text, `*text*` is bold.
            yield html.unescape(re.sub(r"<[^<>|]*\|([^<>]*)>", r"\1", line).replace("*", ""))


def _wrapped(text: str, first: str, others: str) -> list[str]:
    width = min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
    return textwrap.wrap(plain(text), width, initial_indent=first, subsequent_indent=others)


def _reasons(found: dict[str, Any]) -> list[str]:
    """Return why some alerts joined, of different kinds."""
    by_name: dict[str, str] = {}
    for each in found["episodes"]:
        if not each["why"].startswith(FOUNDED):
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

    def events(self) -> Iterator[Event]:
        """Return the events since the last call, each once."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                event = msgspec.json.decode(line, type=Event)
                if event.event_id not in self._seen:
                    self._seen.add(event.event_id)
                    yield event


def _live_through_the_past(folder: Path) -> None:
    """Let the sidecar begin with what three ordinary days have taught it, as `tocsin replay --store` does."""
    recording = folder / "past.jsonl"
    now = datetime.now(UTC)
    recording.write_bytes(b"".join(past(now)))
    replay([str(recording)], Wishes(store=folder / "data", until=now, no_models=True), say=click.echo)


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
    """Wait until webhooks are taken in and understood; the models may come later."""
    remote = Remote(f"http://127.0.0.1:{port}", timeout_s=2.0)
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(RemoteError):
            if remote.get("/api/v1/stats")["analyst"]["up"]:
                return
        time.sleep(LOOK_S)
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


def _states(sent: Sequence[Call]) -> str:
    """Return what calls say in all: `4 firing`, `2 firing, 9 resolved`."""
    sums = {"firing": sum(each.firing for each in sent), "resolved": sum(each.resolved for each in sent)}
    return ", ".join(f"{number} {state}" for state, number in sums.items() if number)


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S")


_HEADING = """\
Tocsin demo, about 45 s: the database of a shop fails. Two Alertmanagers send what they see (in);
Tocsin works out what belongs together and tells it once (OUT). It knows three ordinary days from a recording."""
_ENDING = """\
This is what Tocsin does: many alerts in, few explained incidents out, none lost.
To run it: `tocsin serve`, then point a webhook receiver of your Alertmanager at
http://127.0.0.1:9195/v1/alertmanager. `tocsin serve --help` says more."""
