"""What runs in the models' child process: the only place where torch, sklearn and hdbscan are imported.

Rules: nothing here is called in the analyst; `bridge.app.models` sends these functions to the child. The
child is quiet (stdout goes to stderr), niced, single-threaded, offline, and ends when its parent does. What
it keeps from call to call, the encoder and the newest fits, can be made again at any time.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from multiprocessing import parent_process
from multiprocessing.connection import wait

from bridge import encoder
from bridge.analysis import families, gate, reviewing
from bridge.analysis.families import FitAsk
from bridge.analysis.gate import LinkAsk, linker_row
from bridge.analysis.reviewing import ReviewAsk
from bridge.errors import ConfigError
from bridge.ports import Encoder

Loader = Callable[[], Encoder]
Vectors = tuple[tuple[str, bytes], ...]  # (template id, vector)

#: Fits the child keeps, of the tenants used last.
MAX_FITTED = 32


class _Room:
    """What the child keeps from call to call."""

    def __init__(self) -> None:
        self.encoder: Encoder | None = None
        self.fitted: OrderedDict[str, tuple[int, families.Fitted]] = OrderedDict()


_ROOM = _Room()


def enter_child() -> None:
    """Make this process a quiet and obedient child: niced, offline, deaf to Ctrl-C, gone with its parent."""
    os.environ.update(encoder.OFFLINE)
    # Libraries make locks in here (tqdm does at the first text). A spawned process gives each a name in the
    # system, and a child that is killed, as this one always is, leaves it behind for Python to warn about. Those
    # of the method `fork` have no name; no process is started from here by either.
    multiprocessing.set_start_method("fork", force=True)
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)  # the analyst's stdout is a protocol; what a library prints must not get into it
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def load_encoder(load: Loader) -> str:
    """Load the model and return its name."""
    try:
        _ROOM.encoder = load()
    except ConfigError as error:  # does not survive the way to the owner as it is
        raise RuntimeError(str(error)) from None
    return _ROOM.encoder.model


def encode_texts(texts: Sequence[str]) -> list[bytes]:
    """Return one vector per text."""
    if _ROOM.encoder is None:
        raise RuntimeError("the encoder is not loaded")
    return list(_ROOM.encoder.encode(texts))


def fit_families(ask: FitAsk) -> dict[str, str]:
    """Fit, keep the fit for `predict_families`, and return template id -> family id."""
    found = families.fit(ask)
    _ROOM.fitted[ask.tenant] = (ask.fit, found.fitted)
    _ROOM.fitted.move_to_end(ask.tenant)
    if len(_ROOM.fitted) > MAX_FITTED:
        _ROOM.fitted.popitem(last=False)
    return found.assign


def fit_linker(ask: LinkAsk) -> bytes:
    """Learn to link and examine what was learned; return the body of the row that brings it."""
    return linker_row(gate.fit(ask))


def review_detectors(ask: ReviewAsk) -> bytes:
    """Review which detectors speak for series; return the body of the row that says so."""
    return reviewing.told(reviewing.answered(ask))


def predict_families(tenant: str, fit: int, templates: Vectors) -> dict[str, str] | None:
    """Return template id -> family id after the tenant's fit number `fit`; None if that fit is not here."""
    kept, fitted = _ROOM.fitted.get(tenant, (None, None))
    if fitted is None or kept != fit:
        return None
    _ROOM.fitted.move_to_end(tenant)
    return families.predict(fitted, templates)
