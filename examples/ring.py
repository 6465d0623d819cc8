"""The smallest game: eight Gaussians on a ring and two small networks, a minute on two cores.

    python examples/ring.py [STEPS]

It saves ring.png (the modes of the data in grey, G's samples in red) and ring.gif, which shows how the
samples got there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from minigan.data.mixture import Mixture
from minigan.gans import MEMBERS
from minigan.keys import generator, noise
from minigan.tensor import Tensor
from minigan.training.draw import Draw

SEED = 999


def main(steps: int = 4000, out: Path = Path()) -> int:
    """Train, and save the pictures in `out`; returns the number of modes that G covers at the end."""
    # The data: 100,000 points. The game: algorithm 1 of Goodfellow et al. 2014, on two MLPs.
    data, member = Mixture("ring"), MEMBERS["dcgan"]
    options = member.Options(nz=2, ngf=128, ndf=128, batch_size=256, lr=1e-3, seed=SEED)
    game = member(options, data.shape, generator(SEED, "init"))

    # Everything random in a step is a function of the seed and the step.
    draw = Draw(data, options.batch_size, options.nz, SEED)
    z = Tensor(noise(generator(SEED, "pictures"), (data.shown, options.nz), "normal"))

    frames = []
    for step in range(steps):
        metrics = game.step(draw)  # D descends its loss, then G descends its own
        draw.next_step()
        if (step + 1) % max(1, steps // 40) == 0:
            points = game.sample(z).numpy()  # (2500, 2), from the average of G's weights
            frames.append(Image.fromarray(data.picture(points)))
            modes, good = data.modes(points)
            loss_d, loss_g = metrics["loss_d"].item(), metrics["loss_g"].item()
            print(f"step {step + 1}: Loss_D {loss_d:.3f}  Loss_G {loss_g:.3f}  ", end="")
            print(f"{modes} of {len(data.centers)} modes, {good:.0%} of the points on one")

    frames[-1].save(out / "ring.png")
    frames[0].save(out / "ring.gif", save_all=True, append_images=frames[1:], duration=150, loop=0)
    print(f"Look at {out / 'ring.png'} and {out / 'ring.gif'}")
    return modes


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
