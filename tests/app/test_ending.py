from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from bridge.app.ending import EXIT_CODE, LIMIT_S, end_within

ROOT = Path(__file__).parents[2]

HANGS = """
import threading
from bridge.app.ending import end_within
from bridge.telemetry import set_up_logging
set_up_logging()
end_within(0.1)
threading.Thread(target=threading.Event().wait).start()  # not a daemon: the interpreter waits for it at its end
"""


def test_a_process_that_hangs_is_ended_and_says_so():
    done = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, cwd=ROOT, check=False, timeout=30
    )
    assert done.returncode == EXIT_CODE
    assert json.loads(done.stderr)["event"] == "front_cut_off"


def test_a_process_that_ends_in_time_is_left_alone():
    code = "from bridge.app.ending import end_within; end_within(60.0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=True, timeout=30)
    assert done.stderr == b""


def test_the_end_is_made_once_after_the_limit():
    codes: list[int] = []
    over = threading.Event()
    end_within(0.01, lambda code: (codes.append(code), over.set())).join(10)
    assert over.is_set()
    assert codes == [EXIT_CODE]
    assert LIMIT_S < 10.0
