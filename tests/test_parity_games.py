"""Twenty steps of every member against PyTorch, in float64: metrics, movement, running statistics.

PyTorch's answers are stored in `fixtures/games.npz`; PyTorch itself is not needed. `fixtures/games.py`
has the cases and draws the same numbers again; `fixtures/make_games.py` played the games.
"""

from __future__ import annotations

import numpy as np
import pytest
import walk
from frozen import check, deviation, frozen, summary_deviation
from games import CASES, CLASSES, SHAPES, SIZES, STEPS, UNIT, Given, first_weights
from inputs import summaries, summary_scale

import minigan
from minigan.gans import MEMBERS
from minigan.gans.base import GAN
from minigan.gans.objectives import OBJECTIVES
from minigan.keys import generator
from minigan.nn import Module

# Rounding starts at 1e-16, and a case magnifies it by less than 10,000; make_games.py asserts that.
TOLERANCE = 1e-9


def nets(member: GAN) -> dict[str, Module]:
    """All networks that a step changes."""
    found = {name: player.net for name, player in member.players.items()}
    return found | {"average": member.players["G"].average}


def values(net: Module) -> dict[str, np.ndarray]:
    return {key: t.numpy().copy() for key, t in net.state_dict().items()}


def movement_deviation(moved: dict[str, np.ndarray], expected: np.ndarray) -> float:
    """The deviation of a network's movement, each number relative to the movement of the whole network.

    A weight whose gradient is 0, such as a critic's last bias, moves only by rounding.
    """
    sizes = [array.size for array in moved.values()]
    rms = np.linalg.norm(expected[:, 1]) / np.sqrt(sum(sizes))
    scale = np.stack([summary_scale(rms * np.sqrt(n), n) for n in sizes])
    return deviation(summaries(moved), expected, scale)


@pytest.mark.parametrize("name", CASES)
def test_twenty_steps(name):
    case = CASES[name]
    Member = MEMBERS[case.member]
    options = Member.Options(**{**walk.own(case.member, SIZES), **case.options})
    classes = min(walk.classes(case.member), CLASSES)
    member = Member(options, SHAPES[case.kind], generator("any"), classes=classes)
    before = {}
    walk.widen(member)
    for player, net in nets(member).items():
        shapes = {key: t.shape for key, t in net.double().state_dict().items()}
        name_of = "G" if player == "average" else player
        net.load_state_dict(first_weights(name_of, shapes, case.member in UNIT))
        before[player] = values(net)

    draw, rows = Given(case, minigan.tensor), []
    for step in range(STEPS):
        member.schedule(step)
        rows.append({metric: value.item() for metric, value in member.step(draw).items()})
        draw.next_step()

    prefix = f"{name}/"
    expected = {
        k.removeprefix(prefix): a for k, a in frozen("games").items() if k.startswith(prefix)
    }
    columns = dict(zip(expected.pop("names"), expected.pop("metrics").T, strict=True))
    assert set(rows[0]) == set(columns)
    found = {
        metric: deviation(np.array([row.get(metric, 0.0) for row in rows]), column)
        for metric, column in columns.items()
    }
    for player, net in nets(member).items():
        weights, after = dict(net.named_parameters()), values(net)
        moved = {key: after[key] - before[player][key] for key in weights}
        rows = dict(zip(moved, expected.pop(f"{player}/movement"), strict=True))
        for key in walk.idle(net):
            assert np.abs(moved.pop(key)).max() < 1e-3 * options.lr
            assert rows.pop(key)[1] < 1e-3 * options.lr
        found[f"{player} movement"] = movement_deviation(moved, np.array(list(rows.values())))
        buffers = {k: a for k, a in after.items() if k not in weights and a.dtype.kind == "f"}
        if buffers:
            found[f"{player} buffers"] = summary_deviation(
                buffers, expected.pop(f"{player}/buffers")
            )
    assert not expected, f"PyTorch has more networks: {list(expected)}"
    check(found, TOLERANCE)


def test_no_member_is_left_out():
    """A new member needs a function in make_games.py and rows in games.py, on each kind of data."""
    plain = {(case.member, case.kind) for case in CASES.values() if not case.options}
    assert plain == set(walk.WALK)
    assert {key.partition("/")[0] for key in frozen("games")} == set(CASES)


def test_no_objective_is_left_out():
    played = [
        MEMBERS[case.member].Options(**{**walk.own(case.member, SIZES), **case.options})
        for case in CASES.values()
    ]
    assert {getattr(o, "loss", None) for o in played} - {None} == set(OBJECTIVES)
