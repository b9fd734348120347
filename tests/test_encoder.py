"""The real all-MiniLM-L6-v2, loaded offline from its package: shape, meaning, and the same bytes each time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bridge import encoder
from bridge.encoder import SentenceEncoder
from bridge.errors import ConfigError

# Loading torch takes seconds on a quiet machine, and a minute on a very busy one.
pytestmark = pytest.mark.timeout(240)

DOWN = "InstanceDown: Instance <label> down. <label> of job <label> has been down for more than <num> minutes"
UNREACHABLE = "TargetDown: <num> of the <label> targets are unreachable"
DISK = "NodeFilesystemSpaceFillingUp: Filesystem on <label> has only <num> available space left"


@pytest.fixture(scope="module")
def minilm() -> Iterator[SentenceEncoder]:
    before = dict(os.environ)
    yield encoder.load()
    os.environ.clear()
    os.environ.update(before)


def cosine(one: bytes, other: bytes) -> float:
    return float(np.dot(*(np.frombuffer(vector, "<f2").astype(float) for vector in (one, other))))


def test_a_vector_is_384_float16_of_unit_length(minilm: SentenceEncoder) -> None:
    (vector,) = minilm.encode([DOWN])
    assert len(vector) == 768
    assert cosine(vector, vector) == pytest.approx(1, abs=1e-3)


def test_a_text_has_the_same_bytes_alone_and_among_others(minilm: SentenceEncoder) -> None:
    assert minilm.encode([DISK, DOWN, "word " * 400, ""])[1] == minilm.encode([DOWN])[0]


def test_like_texts_lie_closer_than_unlike_ones(minilm: SentenceEncoder) -> None:
    down, unreachable, disk = minilm.encode([DOWN, UNREACHABLE, DISK])
    assert cosine(down, unreachable) > cosine(down, disk) + 0.1


def test_the_model_is_named_after_its_weights(minilm: SentenceEncoder) -> None:
    assert re.fullmatch(r"all-MiniLM-L6-v2@[0-9a-f]{8}", minilm.model)


def test_a_folder_without_weights_is_a_configuration_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model weights"):
        encoder.load(str(tmp_path))


def test_a_folder_of_something_else_is_a_configuration_fault(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="not a folder saved by sentence-transformers"):
        encoder.load(str(tmp_path))
