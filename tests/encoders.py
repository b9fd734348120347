"""Encoders for the tests of the models' process, loaded in the child by reference: quick, and ill on demand."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from bridge.encoder import DIMENSIONS
from bridge.errors import ConfigError
from bridge.ports import Encoder


def vector_of(text: str) -> bytes:
    """Return a unit vector: texts with the same first word lie close together."""
    parts = [
        np.random.default_rng(list(blake2b(part.encode()).digest())).normal(size=DIMENSIONS)
        for part in (text.partition(" ")[0], text)
    ]
    vector = parts[0] + 0.2 * parts[1]
    return bytes((vector / np.linalg.norm(vector)).astype("<f2").tobytes())


class QuickEncoder:
    """Encodes at once; some texts kill the process, raise, print, or never come back."""

    model = "quick@1"

    def encode(self, texts: Sequence[str]) -> Sequence[bytes]:
        for text in texts:
            if "poison" in text:
                os.kill(os.getpid(), signal.SIGKILL)
            if "sour" in text:
                raise ValueError(f"cannot read {text!r}")
            if "loud" in text:
                print("a library prints", flush=True)
            if "endless" in text:
                threading.Event().wait()
        return [vector_of(text) for text in texts]


def quick() -> Encoder:
    return QuickEncoder()


_LOCKS = []


def locking() -> Encoder:
    """Makes a lock and keeps it, as tqdm does."""
    _LOCKS.append(multiprocessing.RLock())
    return QuickEncoder()


def missing() -> Encoder:
    raise ConfigError(("the model is not installed", "install it"))


def deadly() -> Encoder:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
