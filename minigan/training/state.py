"""Checkpoints: a tree of arrays and whole numbers, compared with the live tree when it is read.

A tree is a dict whose values are trees or leaves: Tensors, arrays and whole numbers (int). In the file,
a leaf's name is its path, such as `players.G.net.main.0.weight`. The live tree is the schema: `read`
accepts only a file of exactly the same form, and names the first leaf that differs. So nothing here
knows a network, an optimiser or an option by name. No state of random numbers is saved: see draw.py.

A checkpoint also holds its game, the table of the options that determine the weights. `read` accepts a
checkpoint only for the same game.

The memory order of an array is not saved. `restore` writes into the live arrays and keeps their order,
because kernels store weights in the order that they need. But the bytes of a sum depend on the order of
its terms, so a resumed run gets the same bytes only if its live arrays have the same order as those of
the run that wrote the checkpoint. The same options on the same type of device ensure this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .. import backend
from ..console import plain
from ..errors import UserError
from ..gans.base import GAN
from ..options import flag, short
from ..tensor import Tensor
from .checkpoint import (
    REMEDY,
    CheckpointError,
    is_named,
    read_file,
    read_forms,
    read_table,
    step_of,
    write_file,
)
from .game import Game

Tree = MutableMapping[str, Any]

MOST = 10**12  # the largest whole number in a checkpoint; anything larger is damage
SQUARES = ("exp_avg_sq", "square_avg", "running_var")  # means of squares, never negative


def tree_of(member: GAN, counts: dict[str, int]) -> dict[str, Any]:
    """The live tree of a run: everything that must be saved. `counts` are those of its Draw."""
    players = {name: player.tree() for name, player in member.players.items()}
    return {"draw": counts, "players": players, "extra": member.extra}


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a tree as (path, leaf), in the tree's order."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def write(path: Path, tree: Tree, game: Game) -> None:
    """Write a tree and the game that it belongs to, completely or not at all.

    Raises TypeError for a leaf that is not a Tensor, an array or an int.
    """
    arrays = {name: host(leaf) for name, leaf in _arrays(tree)}
    numbers = {name: leaf for name, leaf in leaves(tree) if type(leaf) is int}
    write_file(path, arrays, {"game": game.table(), "numbers": numbers})


def read(path: Path, like: Tree, game: Game) -> dict[str, Any]:
    """The leaves of a checkpoint by path, for `restore`. Raises CheckpointError.

    Each leaf must have the dtype and shape of its leaf in the live tree `like`, and finite values. The
    checkpoint's game must equal `game`, and its step must equal the one in the file's name.
    """
    arrays, table = read_file(path)
    _check_game(path, table, game)
    numbers = table.get("numbers")
    if not isinstance(numbers, dict):
        raise CheckpointError(f"{path}: its numbers are not a table; {REMEDY}")
    found, wanted = {**numbers, **arrays}, dict(leaves(like))
    for name in (*wanted, *sorted(set(found) - set(wanted))):
        _check_leaf(path, name, found.get(name), wanted.get(name))
    if is_named(path) and step_of(path) != found.get("draw.step"):
        raise CheckpointError(
            f"{path}: its step is {found.get('draw.step')}, not the one in its name; {REMEDY}"
        )
    return found


def check(path: Path, game: Game, outline: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless the file's header has this game, and weights of these forms.

    Call this before a member is built, because false sizes in the options of a file could demand any
    amount of memory. It reads only the header.

    outline  the result of GAN.outline for the options of the game
    """
    _check_game(path, read_table(path), game)
    forms = read_forms(path)
    for name, weight in outline.items():
        has = "{} {}".format(*forms[name]) if name in forms else "missing"
        if has != _form(weight):
            _misfit(path, name, has, _form(weight))


def game_of(path: Path) -> Game:
    """The game of a checkpoint. Raises CheckpointError."""
    return _game(path, read_table(path))


def restore(found: Mapping[str, Any], like: Tree, prefix: str = "") -> None:
    """Write the leaves from `read` into the live tree: arrays in place, numbers into its dicts."""
    for key, leaf in like.items():
        name = f"{prefix}{key}"
        if isinstance(leaf, Mapping):
            restore(found, leaf, f"{name}.")
        elif isinstance(leaf, int):
            like[key] = found[name]
        else:
            array = leaf.data if isinstance(leaf, Tensor) else leaf
            array[...] = backend.move(found[name], backend.device_of(array))


def spoiled(tree: Tree) -> str | None:
    """The path of the first array that holds a value that is not finite, or None.

    Raises TypeError in the same cases as `write`.
    """
    return next((name for name, leaf in _arrays(tree) if not np.isfinite(host(leaf)).all()), None)


def host(leaf: Any) -> np.ndarray:
    """The values of an array or Tensor as a NumPy array."""
    return leaf.numpy() if isinstance(leaf, Tensor) else backend.move(leaf, "cpu")


def _arrays(tree: Tree) -> Iterator[tuple[str, Any]]:
    """The leaves that are Tensors or arrays, with their paths; all others must be whole numbers."""
    for name, leaf in leaves(tree):
        if isinstance(leaf, Tensor) or backend.is_array(leaf):
            yield name, leaf
        elif type(leaf) is not int:
            raise TypeError(
                f"{name} is a {type(leaf).__name__}: a checkpoint holds Tensors, arrays and whole "
                "numbers (int); keep any other number as an array of shape ()"
            )


def _game(path: Path, table: Mapping[str, Any]) -> Game:
    """The game in a checkpoint's table. An option that it lacks takes its default: see Table.read."""
    game = table.get("game")
    try:
        return Game.read(game if isinstance(game, dict) else {}, path)
    except UserError as error:
        raise CheckpointError(f"{plain(error)}, or {REMEDY}") from error


def _check_game(path: Path, table: Mapping[str, Any], game: Game) -> None:
    """Raise CheckpointError, naming each option that differs, unless the table's game is this one."""
    before, now = dict(leaves(_game(path, table).table())), dict(leaves(game.table()))
    if changed := [name for name in {**now, **before} if before.get(name) != now.get(name)]:
        listed = ", ".join(
            f"{flag(name.rpartition('.')[2])} {short(before.get(name))} -> {short(now.get(name))}"
            for name in changed
        )
        raise CheckpointError(
            f"{path} does not fit: it was written with other options: {plain(listed)[:500]}; "
            f"restore config.json, or {REMEDY}"
        )


def _check_leaf(path: Path, name: str, found: Any, wanted: Any) -> None:
    """Raise CheckpointError unless a leaf has the form of the live leaf, and possible values."""
    has, needs = _form(found), _form(wanted)
    said = plain(name)[:80]
    if has != needs:
        _misfit(path, name, has, needs)
    if isinstance(found, np.ndarray):
        if not np.isfinite(found).all():
            raise CheckpointError(f"{path}: {said} holds values that are not finite; {REMEDY}")
        if name.endswith(SQUARES) and (found < 0).any():
            raise CheckpointError(f"{path}: {said} holds negative values; {REMEDY}")


def _misfit(path: Path, name: str, has: str, needs: str) -> NoReturn:
    said = plain(name)[:80]
    raise CheckpointError(f"{path} does not fit: {said} is {has}, expected {needs}; {REMEDY}")


def _form(leaf: Any) -> str:
    """The form of a leaf as text, for comparing and for messages."""
    if leaf is None:
        return "missing"
    if type(leaf) is int:
        return "a whole number" if 0 <= leaf <= MOST else "a number out of range"
    dtype, shape = getattr(leaf, "dtype", None), getattr(leaf, "shape", None)
    return f"a {type(leaf).__name__}" if dtype is None else f"{dtype} {tuple(shape)}"
