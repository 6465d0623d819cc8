"""Checkpoints: everything a run needs to go on, in one safetensors file.

The file holds arrays only, under names such as `G.main.0.weight` and `opt_D.3.exp_avg`, and in its
metadata one text of three lines: the format, a digest, and the state as JSON, which is the step, the
optimisers' counters, the random streams, the position in the data and the options. Nothing is
pickled, so nothing in it can be executed. The digest is of all that is read, for safetensors itself
does not notice a flipped bit. One text, not one for each: safetensors writes several in any order,
and the same training shall leave the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from ..data.cache import plain
from ..nn import Module
from ..optim import Optimizer
from .run import write_atomically

FORMAT = "minigan checkpoint 2"
KEY = "minigan"  # of the text in the metadata
REMEDY = "use another checkpoint"


class CheckpointError(Exception):
    """A checkpoint that is missing or cannot be read; the message is for the user."""


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is; the zeros make names sort like numbers."""
    return folder / f"step-{step:08d}.safetensors"


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder."""
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def write(
    path: Path,
    networks: Mapping[str, Module],
    optimizers: Mapping[str, Optimizer],
    state: Mapping[str, Any],
) -> None:
    """Write networks and optimisers (by name) and `state` (JSON-able), wholly or not at all."""
    arrays = {
        f"{name}.{key}": value.numpy()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    counters: dict[str, dict] = {}
    for name, optimizer in optimizers.items():
        for i, entries in optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                if key == "step":
                    counters.setdefault(name, {})[i] = value
                else:
                    arrays[f"{name}.{i}.{key}"] = value.numpy()
    arrays = {key: np.asarray(value, order="C") for key, value in arrays.items()}
    text = json.dumps({**state, "optimizer_steps": counters})
    write_atomically(path, pack(arrays, text))


def pack(arrays: Mapping[str, np.ndarray], text: str) -> bytes:
    """The file of these arrays and this state."""
    return save(dict(arrays), {KEY: "\n".join((FORMAT, _digest(arrays, text), text))})


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the state of a checkpoint, checked for their form. Raises CheckpointError."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a file")  # a pipe would be waited for
        with safe_open(path, framework="numpy") as file:
            found, digest, text = _three_lines((file.metadata() or {}).get(KEY, "none"))
            if found != FORMAT:
                raise CheckpointError(
                    f"{path}: its format is {found[:80]!r}, this reads {FORMAT!r}; {REMEDY}"
                )
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, no dict
    except CheckpointError:
        raise
    except Exception as error:  # SafetensorError, but NumPy's too: of types and shapes it lacks
        reason = plain(error)[:200]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {reason}; {REMEDY}"
        ) from error
    if digest != _digest(arrays, text):
        raise CheckpointError(f"{path} is damaged: its contents do not fit its checksum; {REMEDY}")
    return arrays, _state(path, text)


def _three_lines(text: str) -> tuple[str, str, str]:
    """Format, digest and state, which may have further lines; what is missing is empty."""
    first, _, rest = text.partition("\n")
    second, _, third = rest.partition("\n")
    return first, second, third


def _state(path: Path, text: str) -> dict[str, Any]:
    """The JSON text as an object with counters, which a checksum alone does not make it."""
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        state = None
    counters = state.get("optimizer_steps", {}) if isinstance(state, dict) else None
    if not isinstance(counters, dict) or not all(isinstance(c, dict) for c in counters.values()):
        raise CheckpointError(f"{path}: its state is not that of a training run; {REMEDY}")
    return state


def _digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """SHA-256 of everything that `read` gives."""
    digest = hashlib.sha256(text.encode())
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def restore(
    arrays: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    networks: Mapping[str, Module],
    optimizers: Mapping[str, Optimizer],
) -> None:
    """Put what `read` gave into networks and optimisers of the same form."""
    for name, network in networks.items():
        network.load_state_dict(_below(name, arrays))
    for name, optimizer in optimizers.items():
        saved: dict[int, dict[str, Any]] = {}
        for key, value in _below(name, arrays).items():
            i, _, entry = key.partition(".")
            saved.setdefault(int(i), {})[entry] = value
        for i, step in state["optimizer_steps"].get(name, {}).items():
            saved[int(i)]["step"] = step
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": saved, "param_groups": groups})


def _below(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names start with `name.`, without that start."""
    start = name + "."
    return {key[len(start) :]: a for key, a in arrays.items() if key.startswith(start)}
