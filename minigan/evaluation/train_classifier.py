"""Train the shipped classifiers anew.

    python -m minigan.evaluation.train_classifier digits shapes faces [--out FOLDER]

They learn from images drawn with a seed that no run uses by default, so a generator that has memorised
its data gains nothing. On one machine the same weights come out each time. They are rounded to float16,
and the error is that of the rounded weights, on images of another seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import functional as F
from .. import optim, tensorfile
from ..data import digits, faces, shapes
from ..keys import generator
from ..tensor import Tensor
from .classifier import QUESTIONS, SHAPES, Classifier, choices, path_of, untrained

LEARNT, UNSEEN = 20_001, 20_002  # seeds of the drawn images
COUNT, EPOCHS, BATCH, TESTED = 8000, 10, 100, 2000
LR = 2e-3  # at the beginning; it falls linearly to 0
DRAW = {"digits": digits.draw, "shapes": shapes.draw, "faces": faces.draw}


def draw(name: str, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawn images (count, C, S, S) float32 in [-1, 1], and the true answers (count, questions)."""
    shape, questions = SHAPES[name], QUESTIONS[name]
    x = np.empty((count, *shape), np.float32)
    y = np.empty((count, len(questions)), np.int64)
    for i in range(count):
        pixels, truth = DRAW[name](seed, i, shape[1])  # uint8 (S, S, 3)
        x[i] = pixels.transpose(2, 0, 1)[: shape[0]] / np.float32(127.5) - 1
        if name != "faces":  # a number instead of a table of attributes
            ((question, answers),) = questions.items()
            truth = {question: answers[truth]}
        y[i] = [answers.index(truth[question]) for question, answers in questions.items()]
    return x, y


def train(name: str, count: int = COUNT, epochs: int = EPOCHS) -> Classifier:
    """A classifier trained on `count` drawn images."""
    x, y = draw(name, LEARNT, count)
    net, rng = untrained(name), generator("order", name)
    adam = optim.Adam(net.parameters(), lr=LR)
    steps = epochs * (len(x) // BATCH)
    for step in range(steps):
        if step % (len(x) // BATCH) == 0:
            order = rng.permutation(len(x))
        at = order[step % (len(x) // BATCH) * BATCH :][:BATCH]
        adam.options["lr"] = LR * (1 - step / steps)
        adam.zero_grad()
        _loss(name, net(Tensor(x[at])), y[at]).backward()
        adam.step()
    _scale_features(net, x)
    return net


def _scale_features(net: Classifier, x: np.ndarray) -> None:
    """Bring the features' mean square over the images to 1, so that distances have a usual size.

    The scores stay the same: what the layer of features loses, the layer of scores gains.
    """
    *_, hidden, _ = net.features
    scale = float(np.sqrt((net.describe(x).astype(np.float64) ** 2).mean()))
    for weight, factor in (
        *((w, 1 / scale) for w in (hidden.weight, hidden.bias)),
        (net.scores.weight, scale),
    ):
        weight.data *= factor


def _loss(name: str, scores: Tensor, y: np.ndarray) -> Tensor:
    """The sum of the cross-entropies of all questions."""
    total, start = 0.0, 0
    for answers, truth in zip(QUESTIONS[name].values(), y.T, strict=True):
        end = start + len(answers)
        total = total + F.cross_entropy(scores[:, start:end], Tensor(truth.copy()))
        start = end
    return total


def errors(name: str, net: Classifier, count: int = TESTED) -> dict[str, float]:
    """The share of wrong answers to each question, on images of the seed UNSEEN."""
    x, y = draw(name, UNSEEN, count)
    wrong = (choices(name, net.answer(net.describe(x))) != y).mean(0)  # (questions,)
    return dict(zip(QUESTIONS[name], wrong.tolist(), strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Train the classifiers that are named, and write their files."""
    parser = argparse.ArgumentParser(description="train the shipped classifiers anew")
    parser.add_argument("names", nargs="+", choices=tuple(QUESTIONS))
    parser.add_argument("--out", type=Path, help="by default the package's own folder")
    given = parser.parse_args(argv)
    for name in given.names:
        net = train(name)
        weights = {key: array.astype(np.float16) for key, array in net.state_dict_numpy().items()}
        net.load_state_dict(weights)
        recipe = {
            "images": COUNT, "epochs": EPOCHS, "batch": BATCH, "lr": LR, "seed": LEARNT,
            "tested": TESTED, "test_seed": UNSEEN, "errors": errors(name, net),
        }  # fmt: skip
        path = path_of(name) if given.out is None else given.out / path_of(name).name
        tensorfile.write(path, weights, json.dumps(recipe))
        print(f"{path}: {path.stat().st_size:,} bytes, errors {recipe['errors']}")


if __name__ == "__main__":
    main()
