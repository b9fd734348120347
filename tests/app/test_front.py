"""The whole sidecar as its users run it: real processes, real HTTP, real files, and everything that kills."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from servers import free_port
from sidecars import NO_MODELS, PATIENCE_S, ROOT, Sidecar, until, webhook

from bridge import config
from bridge.app.front import Front
from bridge.app.kinds import known_kinds
from bridge.config import Settings


def test_a_webhook_becomes_an_incident_in_the_file_and_the_end_is_clean(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    sidecar.send("DiskFull")
    (event,) = until(lambda: sidecar.heard_of("DiskFull"), "the incident in the file")
    assert (event["kind"], event["seq"], event["incident"]["severity"]) == ("opened", 1, "critical")
    assert sidecar.metric("tocsin_webhooks_total") == 1
    assert sidecar.metric('tocsin_alerts_total{change="first_seen"}') == 1
    delivered = 'tocsin_deliveries_total{destination="file",result="delivered"}'
    until(lambda: sidecar.metric(delivered) == 1, "the delivery is counted")
    resident = sidecar.metric("process_resident_memory_bytes")
    assert 0 < resident < 150 << 20
    incidents = json.loads(sidecar.ask("GET", "/api/v1/incidents")[1])["items"]
    assert [each["incident"] for each in incidents] == [event["incident"]["id"]]
    analyst = sidecar.analyst()
    started = time.monotonic()
    assert sidecar.end() == 0
    assert time.monotonic() - started < 10.0
    assert not Path(f"/proc/{analyst}").exists()
    assert [line["event"] for line in map(json.loads, sidecar.log.read_text("utf-8").splitlines())][-3:] == [
        "front_stopping", "analyst_stopped", "front_stopped",
    ]  # fmt: skip


def test_an_analyst_that_was_killed_comes_back_and_thinks_on(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    os.kill(sidecar.analyst(), signal.SIGKILL)
    sidecar.send("AfterTheKill")
    until(lambda: sidecar.heard_of("AfterTheKill"), "the incident after the kill")
    assert [line["model_free"] for line in sidecar.logged("analyst_started")] == [False, True]
    assert sidecar.metric('tocsin_analyst_restarts_total{reason="killed"}') == 1
    assert sidecar.end() == 0


def test_a_critical_alert_gets_through_a_stopped_analyst(make: Callable[..., Sidecar]):
    """Promise 3, with a silence of one second in place of fifteen."""
    sidecar = make(TOCSIN_TEST_SILENCE_S="1")
    sidecar.start()
    stopped = sidecar.analyst()
    os.kill(stopped, signal.SIGSTOP)
    sidecar.send("WhileStopped")
    (event,) = until(lambda: sidecar.heard_of("WhileStopped"), "the incident past the stopped analyst")
    assert event["degraded"]
    assert sidecar.logged("analyst_killed")[0]["pid"] == stopped
    assert sidecar.metric('tocsin_analyst_restarts_total{reason="silent"}') == 1
    assert sidecar.analyst() != stopped


def test_nothing_acknowledged_is_lost_when_both_are_killed_at_once(make: Callable[..., Sidecar]):
    sidecar = make()
    for life in range(3):
        sidecar.start()
        analyst = sidecar.analyst() if life == 1 else None
        for number in range(10):
            sidecar.send(f"Life{life}Alert{number}")
        assert sidecar.end(signal.SIGKILL) == -signal.SIGKILL
        if analyst is not None:
            until(
                lambda pid=analyst: not Path(f"/proc/{pid}/exe").exists(), "the analyst died with its front"
            )  # type: ignore[misc]
    sidecar.start()
    names = {f"Life{life}Alert{number}" for life in range(3) for number in range(10)}
    until(lambda: len(sidecar.understood()) >= len(names), "every acknowledged alert understood")
    assert sorted(sidecar.understood()) == sorted(names)  # each once
    until(sidecar.events, "the incident in the file")
    opened = [event for event in sidecar.events() if event["kind"] == "opened"]
    assert {event["event_id"] for event in opened} == {
        opened[0]["event_id"]
    }  # perhaps told twice, under one id
    assert sidecar.end() == 0


def test_an_inbox_that_was_lost_goes_on_above_what_was_understood(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    for name in ("First", "Second"):
        sidecar.send(name)
    until(lambda: len(sidecar.understood()) == 2, "both alerts understood")
    assert sidecar.end() == 0
    for file in sidecar.data.glob("inbox.db*"):
        file.unlink()
    sidecar.start()
    (said,) = sidecar.logged("inbox_behind")
    assert "are gone" in said["message"]
    sidecar.send("AfterTheLoss")
    until(lambda: sidecar.heard_of("AfterTheLoss"), "the incident after the loss")
    assert sidecar.end() == 0


def test_a_data_directory_that_was_deleted_is_not_ready_and_takes_nothing(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    sidecar.send("Before")
    shutil.rmtree(sidecar.data)
    status, answer = sidecar.ask("POST", "/v1/alertmanager", webhook("Lost"))
    assert (status, answer) == (503, '{"error":"not committed; try again"}')
    status, answer = sidecar.ask("GET", "/-/ready")
    assert status == 503
    assert "inbox.db was moved or deleted while it was in use" in answer
    assert sidecar.metric("tocsin_ready") == 0
    assert sidecar.end() in {0, 1}


def test_a_destination_that_refuses_becomes_an_incident_of_its_own(
    make: Callable[..., Sidecar], tmp_path: Path
):
    broken = tmp_path / "not-a-folder"
    broken.write_text("", "utf-8")
    sidecar = make(
        NO_MODELS + "destinations:\n"
        f"  - {{name: good, kind: file, path: {json.dumps(str(tmp_path / 'data' / 'good.jsonl'))}}}\n"
        f"  - {{name: bad, kind: file, path: {json.dumps(str(broken / 'bad.jsonl'))}}}\n"
        "routes: [{to: [good, bad]}]\n"
    )
    sidecar.start()
    sidecar.send("DiskFull")
    until(lambda: sidecar.heard_of("DiskFull", "good.jsonl"), "the incident at the good destination")
    (event,) = until(
        lambda: sidecar.heard_of("TocsinDestinationBlocked", "good.jsonl"), "an incident about the bad one"
    )
    assert event["incident"]["origin"] == "tocsin"
    assert event["incident"]["episodes"][0]["labels"]["destination"] == "bad"
    [good, bad] = json.loads(sidecar.ask("GET", "/api/v1/stats")[1])["destinations"]
    assert (good["state"], bad["state"]) == ("working", "blocked")
    assert bad["reason"]
    assert sidecar.metric('tocsin_destination_blocked{destination="bad"}') == 1


def test_a_second_sidecar_on_the_same_directory_is_refused(make: Callable[..., Sidecar]):
    sidecar = make()
    sidecar.start()
    second = subprocess.run(
        [sys.executable, "-m", "bridge", "serve", "--config", str(sidecar.file), "--data", str(sidecar.data),
         "--listen", f"127.0.0.1:{free_port()}"],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"process {sidecar.pid} works on the data directory {sidecar.data} already" in second.stderr


def test_an_address_in_use_is_said_with_what_to_do(make: Callable[..., Sidecar], tmp_path: Path):
    sidecar = make()
    sidecar.start()
    second = subprocess.run(
        [sys.executable, "-m", "bridge", "serve", "--config", str(sidecar.file), "--data", str(tmp_path / "two"),
         "--listen", f"127.0.0.1:{sidecar.port}"],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert (
        f"cannot listen on 127.0.0.1:{sidecar.port}: another process does already; stop it, or choose another "
        "with --listen HOST:PORT" in second.stderr
    )
    assert "Traceback" not in second.stderr


def test_a_terminal_is_told_the_real_port_and_where_to_point_alertmanager(tmp_path: Path):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "serve", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data")],
        stdout=theirs, stderr=theirs, stdin=theirs, cwd=ROOT,
    )  # fmt: skip
    os.close(theirs)
    try:
        said = ""
        while "what becomes of it" not in said:
            said += os.read(ours, 4096).decode()
        [url] = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
        assert f"Tocsin listens on {url}, " in said
        assert (
            f"Point a webhook receiver of Alertmanager at {url}/v1/alertmanager; `tocsin incidents`" in said
        )
        with urllib.request.urlopen(f"{url}/-/ready", timeout=20) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError) as wrong:
            urllib.request.urlopen(f"{url}/v1/alertmanager", timeout=20)
        with wrong.value as answer:
            assert (answer.code, answer.headers["Allow"]) == (405, "POST")
    finally:
        process.terminate()
        with suppress(OSError):
            while os.read(ours, 4096):
                pass
        process.wait(PATIENCE_S)
        os.close(ours)
    assert process.returncode == 0


def test_a_bad_value_of_the_tests_own_variable_is_one_line(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "serve", "--data", str(tmp_path), "--listen", "127.0.0.1:0"],
        capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False,
        env=os.environ | {"TOCSIN_TEST_SILENCE_S": "soon"},
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "TOCSIN_TEST_SILENCE_S: must be a whole number of seconds" in done.stderr


def test_the_front_loads_no_model_library_no_numpy_and_no_cryptography():
    code = "import sys, bridge.app.running as r, bridge.jobs; r.known_kinds(); print(sorted({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    heavy = {
        "torch",
        "sklearn",
        "hdbscan",
        "sentence_transformers",
        "transformers",
        "numpy",
        "jwt",
        "cryptography",
        "scipy",
        "pandas",
        "asyncpg",
        "duckdb",
    }
    assert heavy & set(json.loads(done.stdout.replace("'", '"'))) == set()


async def test_a_worker_that_dies_ends_the_process_and_takes_the_analyst_along(tmp_path: Path):
    class Broken(Front):
        async def _watchdog(self) -> None:
            until_up = asyncio.Event()
            self.hearing.analyst_is = lambda *, up: until_up.set() if up else None  # type: ignore[method-assign]
            await until_up.wait()
            raise RuntimeError("a bug in a worker")

    def load() -> Settings:
        file = tmp_path / "tocsin.yaml"
        file.write_text(NO_MODELS, "utf-8")
        return config.load(
            file, known_kinds(), {}, listen=f"127.0.0.1:{free_port()}", data_dir=tmp_path / "data"
        )

    front = Broken(load(), load)
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        async with asyncio.timeout(PATIENCE_S):
            await front.run()
    holder = int((tmp_path / "data" / "analyst.lock").read_text("ascii"))
    until(lambda: not Path(f"/proc/{holder}/exe").exists(), "the analyst ended too")
