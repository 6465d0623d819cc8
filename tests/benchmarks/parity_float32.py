"""30 steps of the full-size DCGAN in float32, in minigan and PyTorch, and state dicts both ways.

    python tests/benchmarks/parity_float32.py [--steps 30] [--batch 16]

PyTorch trains freely. Before each step, PyTorch's weights and statistics are loaded into minigan's
networks. minigan keeps its own Adam moments and does the same step, and its losses must agree to 1e-4.
(Two independent float32 runs would diverge, because rounding errors grow from step to step.) Loss_D is
the tutorial's, of reals plus fakes. Loss_G is computed with the D that minigan's own Adam has just
updated, so it tests the moments too.

(The fakes' half of Loss_D is not compared separately. PyTorch computes it as x - logsigmoid(x), which
in float32 keeps only two or three digits once D is certain, at x = -10. minigan's softplus keeps all.)

Needs PyTorch, which minigan does not. Without it the script says so and exits with 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

try:
    import torch
except ImportError:
    print("parity_float32: PyTorch is not installed, so there is nothing to compare with")
    sys.exit(0)

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import make_fixtures as pytorch  # the tutorial's networks and its training step
from inputs import BETAS, FULL, LR, batch

import minigan
from minigan import functional as F
from minigan.models.dcgan import Discriminator, Generator

LOSS_TOLERANCE = 1e-4  # relative, at each step
OUTPUT_TOLERANCE = 1e-5  # relative to the largest output
LOSSES = ("Loss_D", "Loss_G")


def step(g, d, adam_g, adam_d, real: np.ndarray, z: np.ndarray) -> list[float]:
    """The tutorial's step in minigan; its losses, in the order of LOSSES."""
    ones, zeros = (minigan.tensor(np.full((len(z), 1, 1, 1), x, "float32")) for x in (1, 0))
    loss_d = F.binary_cross_entropy_with_logits(d.logits(minigan.tensor(real)), ones)
    fake = g(minigan.tensor(z))
    loss_d = loss_d + F.binary_cross_entropy_with_logits(d.logits(fake.detach()), zeros)
    adam_d.step(minigan.grad(loss_d, d.parameters()))
    loss_g = F.binary_cross_entropy_with_logits(d.logits(fake), ones)
    adam_g.step(minigan.grad(loss_g, g.parameters()))
    return [loss_d.item(), loss_g.item()]


def outputs(g, d, tensor, real: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
    """G(z), D(x) and D's logits, of minigan's or PyTorch's networks, in evaluation mode."""
    g.eval()
    d.eval()
    found = [t.detach().numpy() for t in (g(tensor(z)), d(tensor(real)), d.logits(tensor(real)))]
    g.train()
    d.train()
    return found


def difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    size = FULL | {"batch": args.batch}

    g_torch, d_torch = pytorch.networks("parity", size, "float32")
    adam_g_torch, adam_d_torch = pytorch.adam(g_torch), pytorch.adam(d_torch)
    g, d = Generator(), Discriminator()
    adam_g = minigan.optim.Adam(g.parameters(), lr=LR, betas=BETAS)
    adam_d = minigan.optim.Adam(d.parameters(), lr=LR, betas=BETAS)

    print(
        f"batch {args.batch}, float32, PyTorch {torch.__version__}, minigan {minigan.__version__}"
    )
    print(
        f"step  {'  '.join(f'{name:>9}' for name in LOSSES)}   largest deviation   seconds of both"
    )
    worst = 0.0
    for i in range(args.steps):
        real, z, _ = (a.astype("float32") for a in batch("parity", size, i))
        g.load_state_dict(g_torch.state_dict())
        d.load_state_dict(d_torch.state_dict())
        start = time.perf_counter()
        loss_d_real, loss_d_fake, loss_g, *_ = pytorch.train_step(
            g_torch, d_torch, adam_g_torch, adam_d_torch, torch.tensor(real), torch.tensor(z)
        )
        theirs = [loss_d_real + loss_d_fake, loss_g]
        middle = time.perf_counter()
        ours = step(g, d, adam_g, adam_d, real, z)
        end = time.perf_counter()
        deviation = np.abs(np.array(ours) / np.array(theirs) - 1).max()
        worst = max(worst, deviation)
        losses = "  ".join(f"{loss:9.5f}" for loss in ours)
        flag = "" if deviation <= LOSS_TOLERANCE else "  <- too large"
        print(
            f"{i + 1:4}  {losses}   {deviation:17.1e}   "
            f"{end - middle:5.2f} PyTorch {middle - start:5.2f}{flag}"
        )

    real, z, _ = (a.astype("float32") for a in batch("parity/outputs", size))
    g.load_state_dict(g_torch.state_dict())
    d.load_state_dict(d_torch.state_dict())
    theirs = outputs(g_torch, d_torch, torch.tensor, real, z)
    there = difference(outputs(g, d, minigan.tensor, real, z), theirs)

    # The other direction, after a step of minigan, into networks that never loaded PyTorch's weights.
    step(g, d, adam_g, adam_d, real, z)
    g_new, d_new = pytorch.networks("parity/other", size, "float32")
    for module, source in ((g_new, g), (d_new, d)):
        state = {key: torch.tensor(t.numpy()) for key, t in source.state_dict().items()}
        module.load_state_dict(state)
    ours = outputs(g, d, minigan.tensor, real, z)
    back = difference(outputs(g_new, d_new, torch.tensor, real, z), ours)

    print()
    good = True
    for what, found, allowed in (
        (f"losses over {args.steps} steps", worst, LOSS_TOLERANCE),
        ("outputs, state dict from PyTorch", there, OUTPUT_TOLERANCE),
        ("outputs, state dict to PyTorch", back, OUTPUT_TOLERANCE),
    ):
        good &= bool(found <= allowed)
        verdict = "ok" if found <= allowed else "FAILED"
        print(f"{what:34} {found:.1e}  allowed {allowed:.0e}  {verdict}")
    print("parity_float32: ok" if good else "parity_float32: FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
