"""The adversarial game: one round of algorithm 1 of Goodfellow et al. 2014, with k = 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..losses import discriminator_loss
from ..models.dcgan import Discriminator, Generator
from ..optim import Optimizer
from ..tensor import Tensor, grad, no_grad


def play_round(
    G: Generator,
    D: Discriminator,
    opt_G: Optimizer,
    opt_D: Optimizer,
    x: Tensor,
    noise: Callable[[], Tensor],
    generator_loss: Callable[[Tensor], Tensor],
    fresh_noise: bool = True,
    report: bool = True,
    average: Callable[[Sequence[Tensor]], Sequence[Tensor]] = lambda gradients: gradients,
) -> dict[str, float]:
    """Update D on a batch of reals x and as many fakes, then G through the updated D.

    fresh_noise  new noise for G's half, as in the papers; else the same fakes, as in the tutorial
    report       return the figures; a GPU has to be waited for, so without it the result is empty
    average      what is done with gradients before they are used: several processes take their mean

    The figures: both losses, the norms of both gradients, and the means of D(x) and of D(G(z)) before
    and after D's update (with fresh noise, "after" is of other fakes). Any modules will do, if D has
    `logits`.
    """
    # D ascends log D(x) + log(1 - D(G(z))). Its fakes are detached: nothing of this half reaches G.
    fakes = G(noise())
    real_logits, fake_logits = D.logits(x), D.logits(fakes.detach())
    loss_D = discriminator_loss(real_logits, fake_logits)
    gradients = average(grad(loss_D, opt_D.params))
    opt_D.step(gradients)

    scores = {}
    if report:
        scores = {
            "loss_d": loss_D.item(),
            "grad_d": norm(gradients),
            "d_x": real_logits.sigmoid().mean().item(),
            "d_gz_before": fake_logits.sigmoid().mean().item(),
        }
    del loss_D, real_logits, fake_logits, gradients  # and with them the graph of this half

    # G descends through the new D. Only G's gradients are asked for, so D's weights cost nothing.
    if fresh_noise:
        fakes = G(noise())
    judged_logits = D.logits(fakes)
    loss_G = generator_loss(judged_logits)
    gradients = average(grad(loss_G, opt_G.params))
    opt_G.step(gradients)

    if report:
        d_gz_after = judged_logits.sigmoid().mean().item()
        scores.update(loss_g=loss_G.item(), grad_g=norm(gradients), d_gz_after=d_gz_after)
    return scores


def norm(gradients: Sequence[Tensor]) -> float:
    """The length of all gradients as one vector: the root of the sum of all squares."""
    with no_grad():
        return sum((g * g).sum() for g in gradients).sqrt().item()
