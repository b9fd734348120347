"""What does it cost to watch a series, and how does that grow from 100 series to 100,000?

    python benchmarks/watching.py [--most 100000]

For each detector and number of series: memory a series as the operating system sees it, and CPU time to score and
learn one value of each. Values are counts of a busy and a quiet kind in turns; every series has had `WARM` values, and
fitted detectors have been fitted. `stored` is a series' row in the state. Memory includes what a call needs meanwhile.
What is fitted by the clock is for the busiest series: its rows end at `--most-busy`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import numpy as np

from bridge.analysis.detectors.autoencoder import Autoencoder
from bridge.analysis.detectors.believed import Believed
from bridge.analysis.detectors.fitted import ask_of
from bridge.analysis.detectors.forest import Forest
from bridge.analysis.reviewing import DETECTORS, fit_of

SIZES = (100, 1_000, 10_000, 100_000)
WARM, MEASURED = 64, 3
FITTED = (Forest.NAME, Autoencoder.NAME)
PORTION = 2_000  # series in one call, as a tick takes them


def main() -> int:
    """Print the table; each cell is measured in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--most", type=int, default=SIZES[-1], help="series of one detector")
    parser.add_argument("--most-busy", type=int, default=10_000, help="series of fitted detectors")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cell:
        print(cell(given.cell[0], int(given.cell[1])))
        return 0
    print("| detector | series | memory a series | stored | us a value |\n|---|---|---|---|---|")
    for bank in DETECTORS.values():
        for size in SIZES:
            is_busy = bank.NAME in FITTED
            if size <= (given.most_busy if is_busy else given.most):
                asked = [sys.executable, __file__, "--cell", bank.NAME, str(size)]
                done = subprocess.run(asked, check=True, capture_output=True, text=True)
                print(f"| {bank.NAME} | {size:,} | {done.stdout.strip()} |", flush=True)
    return 0


def cell(name: str, size: int) -> str:
    """Return memory, row and time of one detector with so many series."""
    fit = fitted(name)
    before = resident_bytes()
    bank = DETECTORS[name](size)
    if fit and isinstance(bank, Believed):
        for slot in range(size):
            bank.take(slot, fit)
    dice = np.random.default_rng(0)
    rates = np.where(np.arange(size) % 2 == 0, 20.0, 0.1)
    spent_s = 0.0
    for row in range(WARM + MEASURED):
        values = dice.poisson(rates).astype(float)
        began = time.process_time()
        for first in range(0, size, PORTION):
            series = np.arange(first, min(size, first + PORTION))
            times_s = np.full(len(series), 1.7e9 + 300.0 * row)
            bank.learn_many(series, times_s, values[series], bank.score_many(series, times_s, values[series]))
        spent_s += (time.process_time() - began) * (row >= WARM)
    grown = resident_bytes() - before
    return f"{grown / size / 1024:.1f} KiB | {len(bank.row(0)) / 1024:.1f} KiB | {1e6 * spent_s / size / MEASURED:.1f}"


def fitted(name: str) -> bytes:
    """Return one fit that all series share: what it says does not matter here."""
    times_s, values = (
        1.7e9 + 300.0 * np.arange(2_200),
        np.random.default_rng(1).poisson(9.0, 2_200).astype(float),
    )
    return fit_of(name, ask_of("t", "s", 1, (times_s, values)))


def resident_bytes() -> int:
    """Return the memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
