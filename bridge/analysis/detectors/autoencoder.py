"""Autoencoder: a window is strange if it cannot be told in six numbers as all others can.

Paper: Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 2006; for
anomalies: Sakurada and Yairi, "Anomaly detection using autoencoders with nonlinear dimensionality reduction", 2014.
The last 32 values and the time of day go through a layer of 16, six numbers, and a layer of 16 back to 32 values:
1,318 parameters. What does not come back is strange, in two views: the newest value alone, and the whole window.

Cost: a fit of 4,000 values one to two seconds (torch, one thread, in the models' process); a score 10 us in a batch,
with numpy, from stored weights; the analyst never imports torch. 6 KiB of memory for each series.

Assumptions: at least 2,000 values of history, in which what is usual comes in many variations of a few shapes.

Decision: dense layers and not a convolution. At 32 values it has no more parameters and is two products of a matrix.
Decision: training takes the whole batch at once, a fixed number of steps, weights drawn by numpy: no order of batches
and no early end that could come out differently. Decision: the tails come from the same history. Keeping its newest
quarter back left so few windows that do not overlap that the tails came out five times too small; at 48 numbers to
learn from for each parameter, knowing the history too well does less harm.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from bridge.analysis.detectors.bank import Floats
from bridge.analysis.detectors.fitted import FittedBank, Unit, hours, own_columns
from bridge.analysis.detectors.slots import Column, Ints

WINDOW, HIDDEN, NARROW = 32, 16, 6
STEPS = 300
RATE = 0.01
#: Rows that go through at once: their weights are laid out side by side.
ROWS_AT_ONCE = 1024

_SHAPES = ((WINDOW + 2, HIDDEN), (HIDDEN, NARROW), (NARROW, HIDDEN), (HIDDEN, WINDOW))
PARAMETERS = sum((inputs + 1) * outputs for inputs, outputs in _SHAPES)
_MOVING, _SHARED = own_columns(WINDOW, 2)

Narrow = NDArray[np.float32]


class Autoencoder(FittedBank):
    """A small autoencoder for each of many series."""

    NAME = "autoencoder"
    WINDOW = WINDOW
    VIEWS = 2
    LEAST = 2_000
    LEARNED = (*_SHARED, Column("weights", "<f4", (PARAMETERS,)))
    COLUMNS: ClassVar[tuple[Column, ...]] = (*_MOVING, *LEARNED)

    weights: Narrow

    @override
    @classmethod
    def learn(
        cls, windows: Floats, times_s: Floats, unit: Unit, seed: int
    ) -> tuple[NDArray[np.generic], ...]:
        return (trained(_inputs(windows, times_s, np.array([unit.daily])), seed),)

    @override
    def strangeness(self, series: Ints, windows: Floats, times_s: Floats) -> Floats:
        inputs = _inputs(windows, times_s, self.unit[series, 3])
        missed = np.concatenate(
            [
                inputs[at : at + ROWS_AT_ONCE, :WINDOW]
                - _through(inputs[at : at + ROWS_AT_ONCE], self.weights[series[at : at + ROWS_AT_ONCE]])
                for at in range(0, len(inputs), ROWS_AT_ONCE)
            ]
        ).astype(np.float64)
        return np.column_stack((np.abs(missed[:, -1]), np.sqrt(np.mean(missed**2, axis=1))))


def _inputs(windows: Floats, times_s: Floats, daily: Floats) -> Narrow:
    return np.column_stack((windows, hours(times_s) * daily[:, None])).astype(np.float32)


def _layers(weights: Narrow) -> list[tuple[Narrow, Narrow]]:
    """Return (matrix, offset) of each layer, one for each row of weights."""
    found, at = [], 0
    for inputs, outputs in _SHAPES:
        matrix = weights[:, at : at + inputs * outputs].reshape(-1, inputs, outputs)
        at += inputs * outputs
        found.append((matrix, weights[:, at : at + outputs]))
        at += outputs
    return found


def _through(rows: Narrow, weights: Narrow) -> Narrow:
    """Return what comes back of each row. No matrix product of a library: its last digit depends on the batch."""
    for number, (matrix, offset) in enumerate(_layers(weights)):
        rows = (rows[:, :, None] * matrix).sum(axis=1) + offset
        if number < len(_SHAPES) - 1:
            rows = np.tanh(rows)
    return rows


def trained(rows: Narrow, seed: int) -> Narrow:
    """Return the weights that bring the rows back best; only in the models' process."""
    import torch  # noqa: PLC0415  (only the models' process pays for it)

    dice = np.random.default_rng(seed)
    layers = []
    for inputs, outputs in _SHAPES:
        reach = (6.0 / (inputs + outputs)) ** 0.5  # Glorot and Bengio 2010
        drawn = dice.uniform(-reach, reach, (inputs, outputs)).astype(np.float32)
        layers.append((torch.from_numpy(drawn), torch.zeros(outputs)))
    flat = [part.requires_grad_() for layer in layers for part in layer]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        given = torch.from_numpy(rows)
        wanted = given[:, :WINDOW]
        descent = torch.optim.Adam(flat, lr=RATE)
        for step in range(STEPS):
            descent.param_groups[0]["lr"] = RATE * (1.0 - step / STEPS)
            descent.zero_grad()
            back = given
            for number, (matrix, offset) in enumerate(layers):
                back = back @ matrix + offset
                back = torch.tanh(back) if number < len(layers) - 1 else back
            # Huber's loss: a spike in the history must not be what the network is for.
            torch.nn.functional.smooth_l1_loss(back, wanted).backward()  # type: ignore[no-untyped-call]
            descent.step()
    finally:
        torch.set_num_threads(threads)
    return np.concatenate([part.detach().numpy().ravel() for part in flat]).astype("<f4")
