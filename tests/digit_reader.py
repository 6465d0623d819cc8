"""A judge of conditional samples: a small network that reads digits.

    python tests/digit_reader.py    # trains it, and prints its accuracy on unseen digits

It learns from digits drawn with a seed that no run here uses. So a generator cannot score well by
memorising the images that the reader was trained on.
"""

from __future__ import annotations

import numpy as np

import minigan.functional as F
from minigan import nn, no_grad, optim
from minigan.data import digits
from minigan.keys import generator
from minigan.models.first_values import first_values
from minigan.tensor import Tensor

LEARNT, UNSEEN = 20_001, 20_002  # seeds of the drawn digits
COUNT, EPOCHS, BATCH = 8000, 5, 100


class Reader(nn.Module):
    """Images (N, 1, 28, 28) in [-1, 1] -> scores (N, 10)."""

    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)

    def read(self, images: np.ndarray) -> np.ndarray:
        """The digit in each of the images (N, 1, 28, 28): (N,) int64."""
        with no_grad():
            return np.concatenate(
                [
                    self(Tensor(images[i : i + BATCH])).numpy().argmax(1)
                    for i in range(0, len(images), BATCH)
                ]
            )


def draw(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Drawn digits (count, 1, 28, 28) float32 in [-1, 1], and their classes (count,) int64."""
    drawn = [digits.draw(seed, i) for i in range(count)]
    pixels = np.stack([image[None, :, :, 0] for image, _ in drawn])  # (count, 1, 28, 28) uint8
    return pixels.astype(np.float32) / 127.5 - 1, np.array([label for _, label in drawn], np.int64)


def train_reader(count: int = COUNT, epochs: int = EPOCHS) -> Reader:
    """A reader trained on `count` drawn digits."""
    x, y = draw(LEARNT, count)
    rng, reader = generator(LEARNT, "reader"), Reader()
    first_values(reader, "he", rng)
    adam = optim.Adam(reader.parameters(), lr=2e-3)
    for _ in range(epochs):
        for at in rng.permutation(count).reshape(-1, BATCH):
            adam.zero_grad()
            F.cross_entropy(reader(Tensor(x[at])), Tensor(y[at])).backward()
            adam.step()
    return reader


def accuracy(reader: Reader, images: np.ndarray, asked: np.ndarray) -> float:
    """The share of the images in which the reader finds the requested digit."""
    return float((reader.read(images) == asked).mean())


if __name__ == "__main__":
    print(f"{accuracy(train_reader(), *draw(UNSEEN, 2000)):.2%} of 2000 unseen digits are read")
