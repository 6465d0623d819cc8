"""Checkpoints: everything a run needs to go on, in one safetensors file.

The file holds arrays only, under names such as `G.main.0.weight` and `opt_D.3.exp_avg`, and in its
metadata one text of three lines: the format, a digest, and the state as JSON, which is the step, the
optimisers' counters, the random streams, the position in the data and the options. Nothing is
pickled, so nothing in it can be executed. The digest is of all that is read, because the safetensors
format itself does not notice a flipped bit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import tensorfile
from ..console import plain
from ..files import reason
from ..nn import Module
from ..optim import Optimizer
from .config import Config, ConfigError, differing

T = TypeVar("T")

FORMAT = "minigan checkpoint 2"
REMEDY = "use another checkpoint"
DIGITS = 8  # of a step: a hundred million are out of reach
SQUARES = ("exp_avg_sq", "running_var")  # means of squares, of which roots are taken
MOMENTS = ("exp_avg", "exp_avg_sq")  # what Adam keeps beside the counter, of its parameter's form


class CheckpointError(Exception):
    """A checkpoint that is missing or cannot be read; the message is for the user."""


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is; the zeros make names sort like numbers."""
    return folder / f"step-{step:0{DIGITS}d}.safetensors"


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(path.stem.removeprefix("step-"))


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder; files of other names are somebody else's.

    There are none where there is no folder. Raises OSError if there is one that cannot be listed.
    """
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _is_named(path)), reverse=True)


def _is_named(path: Path) -> bool:
    """Whether it has the name of a checkpoint."""
    return re.fullmatch(rf"step-[0-9]{{{DIGITS}}}\.safetensors", path.name) is not None


def newest(
    folder: Path, purpose: str, use: Callable[[Path], T], say: Callable[[str], None]
) -> tuple[Path, T, list[str]]:
    """The newest checkpoint that `use` takes, what it makes of it, and the troubles with newer ones."""
    troubles: list[str] = []
    for path in newest_first(folder):
        try:
            return path, use(path), troubles
        except CheckpointError as error:
            troubles.append(str(error))
            say(f"skipped: {error}")
    raise CheckpointError(
        "; ".join((f"{folder.parent} has no checkpoint to {purpose} from", *troubles))
    )


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
    write_signed(path, arrays, json.dumps({**state, "optimizer_steps": counters}))


def write_signed(path: Path, arrays: Mapping[str, np.ndarray], text: str) -> None:
    """Write these arrays and this state with their digest."""
    tensorfile.write(path, arrays, "\n".join((FORMAT, _digest(arrays, text), text)))


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the state of a checkpoint, checked for their form. Raises CheckpointError."""
    try:
        words = tensorfile.read_text(path)
        first = words.get("format", "none")  # where the first format said what it was
        found, digest, text = _three_lines(words.get(tensorfile.KEY, first))
        if found != FORMAT:
            raise CheckpointError(
                f"{path}: its format is {found[:80]!r}, this reads {FORMAT!r}; {REMEDY}"
            )
        arrays = tensorfile.read(path)
        if digest != _digest(arrays, text):
            raise CheckpointError(
                f"{path} is damaged: its contents do not fit its checksum; {REMEDY}"
            )
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {reason(error)}, or {REMEDY}"
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {plain(error)[:200]}; {REMEDY}"
        ) from error
    return arrays, _state(path, text)


def _three_lines(text: str) -> tuple[str, str, str]:
    """Format, digest and state, which may have further lines; what is missing is empty."""
    first, _, rest = text.partition("\n")
    second, _, third = rest.partition("\n")
    return first, second, third


def _state(path: Path, text: str) -> dict[str, Any]:
    """The JSON text as the state of a training run, which a checksum alone does not make it."""
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        state = None
    wrong = _misfit(state, STATE) if isinstance(state, dict) else "it"
    if not wrong:
        loader = state["loader"]
        per_epoch = loader["images"] // max(1, loader["batch_size"])
        if not 1 <= loader["batch_size"] <= loader["images"]:
            wrong = "loader.batch_size"
        elif loader["position"] > per_epoch:
            wrong = "loader.position"
        elif state["step"] != loader["epoch"] * per_epoch + loader["position"]:  # a batch a step
            wrong = "step"
        try:
            Config(**{name: state["options"][name] for name in STATE["options"]})
        except ConfigError as error:
            wrong = f"one of its options ({plain(error)})"
        if not wrong and _is_named(path) and step_of(path) != state["step"]:
            wrong = f"step ({state['step']}, not the one in its name)"
    if wrong:
        raise CheckpointError(
            f"{path}: its state is not that of a training run, {wrong} is wrong; {REMEDY}"
        )
    return state


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 10**DIGITS


def _is_stream(value: Any) -> bool:
    """Whether it is the state of a random stream: NumPy takes it, and gives the same back."""
    stream = np.random.PCG64(0)
    try:
        stream.state = value
    except Exception:  # of whatever the wrong type of a part leads to
        return False
    return stream.state == value


def _are_counters(value: Any) -> bool:
    """{optimiser: {number of a parameter: its steps}}"""
    return isinstance(value, dict) and all(
        isinstance(steps, dict)
        and all(re.fullmatch("0|[1-9][0-9]{0,8}", i) for i in steps)
        and all(map(_is_count, steps.values()))
        for steps in value.values()
    )


# The form of a state: of each part a function that knows it, or parts again. The options are G's.
STATE: dict[str, Any] = {
    "step": _is_count,
    "loader": {
        **dict.fromkeys(("images", "batch_size", "epoch", "position"), _is_count),
        "rng": _is_stream,
        "flip_rng": lambda value: value is None or _is_stream(value),
    },
    "noise": _is_stream,
    "rollbacks": _is_count,
    "options": {
        **dict.fromkeys(("image_size", "nc", "nz", "ngf"), _is_count),
        "noise": lambda value: isinstance(value, str),
    },
    "optimizer_steps": _are_counters,
}


def _misfit(value: dict[str, Any], form: dict[str, Any]) -> str:
    """The name, like "loader.rng", of the first part that is missing or has not its form; or ""."""
    for key, part in form.items():
        inside = value.get(key)
        if isinstance(part, dict) and isinstance(inside, dict):
            if name := _misfit(inside, part):
                return f"{key}.{name}"
        elif isinstance(part, dict) or key not in value or not part(inside):
            return key
    return ""


def _digest(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """SHA-256 of everything that `read` gives."""
    digest = hashlib.sha256(text.encode())
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        for piece in tensorfile.pieces(array):
            digest.update(piece)
    return digest.hexdigest()


def check_options(path: Path, state: Mapping[str, Any], config: Config) -> None:
    """Raise CheckpointError unless it was written with these options, as far as they train.

    Otherwise it is another run's, or somebody has changed those of this one.
    """
    if changed := differing(state["options"], config):
        raise CheckpointError(
            f"{path} does not fit: it was written with other options: {plain(changed)[:500]}; "
            f"restore config.json, or {REMEDY}"
        )


def check(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    networks: Mapping[str, Module],
    optimizers: Mapping[str, Optimizer],
) -> None:
    """Raise CheckpointError unless what `read` gave fits networks and optimisers in every array."""
    wanted = {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for i in state["optimizer_steps"].get(name, {}):
            if int(i) >= len(optimizer.params):
                raise CheckpointError(
                    f"{path} does not fit: it counts the steps of parameter {i} of {name}, "
                    f"which has {len(optimizer.params)}; {REMEDY}"
                )
            wanted |= {f"{name}.{i}.{key}": optimizer.params[int(i)] for key in MOMENTS}
    own = {*networks, *optimizers}
    found = {key: array for key, array in arrays.items() if key.partition(".")[0] in own}
    for key in sorted({*wanted, *found}):
        has, needs = _form(found.get(key)), _form(wanted.get(key))
        if has != needs:
            raise CheckpointError(
                f"{path} does not fit: its {plain(key)[:80]} is {has}, not {needs}; {REMEDY}"
            )
        if key in found and not np.isfinite(found[key]).all():  # such are never saved
            raise CheckpointError(f"{path}: {key} holds values that are not finite; {REMEDY}")
        if key in found and key.endswith(SQUARES) and (found[key] < 0).any():
            raise CheckpointError(f"{path}: {key} holds negative values; {REMEDY}")


def _form(array: Any) -> str:
    return "nothing" if array is None else f"{array.dtype} {tuple(array.shape)}"


def restore(
    arrays: Mapping[str, np.ndarray],
    state: Mapping[str, Any],
    networks: Mapping[str, Module],
    optimizers: Mapping[str, Optimizer],
) -> None:
    """Put what `read` gave into networks and optimisers that it fits: see `check`."""
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
