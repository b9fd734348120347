from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.app.limits import MAX_FILES, raise_file_limit, waiting_connections

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("soft", "hard", "files"), [(128, 512, 512), (512, 512, 512), (64, MAX_FILES * 2, MAX_FILES)]
)
def test_as_many_files_as_may_be_had_are_asked_for(soft: int, hard: int, files: int):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        hard, files = min(hard, most), min(files, most)
    code = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from bridge.app.limits import raise_file_limit\n"
        "print(raise_file_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == [str(files)] * 2


def test_waiting_connections_leave_files_for_who_sends():
    assert waiting_connections(1024) == 512
    assert raise_file_limit() > 0
