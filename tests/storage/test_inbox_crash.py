"""The intake in a process of its own: killed, without room, and watched by strace. benchmarks/crash.py is the long version."""

from __future__ import annotations

import http.client
import random
import resource
import time
from contextlib import closing, contextmanager

import pytest
from servers import require_server

from benchmarks import crash
from benchmarks.crash import Ledger, environment, free_port, intake, judged, kill, killed, start, webhook

SLOW_US = 4_000


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A disk slow enough for a kill to meet webhooks on their way."""
    return environment(SLOW_US, tmp_path_factory.mktemp("shim"))


def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path, slow):
    verdict = killed(intake("tocsin"), tmp_path, kills=3, draw=random.Random(1), env=slow)
    assert verdict.good, verdict
    assert verdict.acknowledged > 50


def test_an_intake_that_answers_before_its_commit_is_caught(tmp_path, slow):
    """The control: without it the test above could not fail."""
    verdict = killed(intake("early"), tmp_path, kills=3, draw=random.Random(1), env=slow)
    assert verdict.lost > 0
    assert not verdict.good


def traced(kind: str, data, env) -> tuple[int, int]:
    require_server("strace")
    try:
        return crash.unsynced_answers(intake(kind), data, webhooks=20, env=env)
    except SystemExit as error:
        if "ptrace" in str(error):
            pytest.skip("strace may not trace here")
        raise


def test_an_fdatasync_lies_between_each_write_and_its_answer(tmp_path, slow):
    assert traced("tocsin", tmp_path, slow) == (20, 0)


def test_an_intake_that_does_not_sync_is_caught(tmp_path, slow):
    """The control: synchronous=OFF, which no kill -9 can show since the kernel keeps the pages."""
    answered, unsynced = traced("unsynced", tmp_path, slow)
    assert answered == 20
    assert unsynced > 10


# ---- no room ---------------------------------------------------------------------------------------------


class Sender:
    """Sends one webhook after the other and keeps the ledger."""

    def __init__(self, port: int) -> None:
        self.ledger = Ledger()
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def send(self) -> int:
        serial = next(self.ledger.sent)
        text = webhook(serial) + b" " * 50_000  # soon there is no room
        self.connection.request("POST", crash.PATH, text, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        answer.read()
        if answer.status == 200:
            self.ledger.acknowledged.add(serial)
        return answer.status


@contextmanager
def running(data, env):
    port = free_port()
    process = start(intake("tocsin")(data, port), port, env, data / "log")
    try:
        sender = Sender(port)
        with closing(sender.connection):
            yield process, sender
        process.terminate()
        assert process.wait(15) == 0
    finally:
        kill(process)


def test_without_room_everything_is_503_nothing_is_lost_and_it_goes_on_by_itself(tmp_path):
    """Files may not grow beyond 2 MB, as on a disk that is full, and then may again."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with running(tmp_path, environment(0, tmp_path)) as (process, sender):
        assert sender.send() == 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2_000_000, hard))
        answers: list[int] = []
        # A checkpoint makes room in the log once or twice before both files are at their limit.
        while answers[-200:] != [503] * 200 and len(answers) < 10_000:
            answers.append(sender.send())
        assert set(answers) == {200, 503}
        assert answers[-200:] == [503] * 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        until = time.monotonic() + 10
        while sender.send() != 200:
            assert time.monotonic() < until
        assert [sender.send() for _ in range(50)] == [200] * 50
    verdict = judged(sender.ledger, tmp_path)
    assert verdict.good, verdict
    # Nothing that was refused was kept: the sender comes again, and would be counted twice.
    assert verdict.stored == verdict.acknowledged
