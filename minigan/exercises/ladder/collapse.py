"""Collapse: which of eight runs has collapsed?

The pictures collapse-a.png to collapse-h.png, beside this file, show a run each: its losses,
samples of its data, and samples of G at four times, from fixed noise. (Where a panel is empty, all
samples are outside of it.) Each run is one of these:

    "healthy"    the samples approach the data, or would if the run went on
    "collapse"   G draws nearly the same for every noise, good or bad, although the data varies
    "D wins"     D is nearly always right, and G learns nothing from it; but G's samples differ

All runs descend the cross-entropy except for d, a least-squares GAN. Its losses are squares: they
are in balance at 0.25, while those of the other runs are in balance at Loss_D = 1.39 and Loss_G =
0.69.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VERDICTS = ("healthy", "collapse", "D wins")
PICTURES = tuple(f"collapse-{letter}.png" for letter in "abcdefgh")


def verdicts() -> dict:
    """The verdict on each run, by its letter: {"a": "healthy" or "collapse" or "D wins", "b": ...}."""
    return {
        **{"a": "healthy", "b": "collapse", "c": "collapse", "d": "healthy"},
        **{"e": "D wins", "f": "healthy", "g": "collapse", "h": "healthy"},
    }


def measure(verdicts: Any) -> Iterator[tuple[str, Any, Any]]:
    found, truth = verdicts(), TRUTH
    for letter, right in truth.items():
        verdict = found.get(letter)
        if verdict not in VERDICTS:
            yield f"run {letter}: {verdict!r} is not one of {', '.join(VERDICTS)}", False, True
        elif verdict != right:
            yield f"run {letter} is not a case of {verdict!r}", False, True
        else:
            yield f"run {letter} is a case of {verdict!r}", True, True


TRUTH = verdicts()


def _but(letter: str, verdict: str) -> dict:
    """All verdicts, with one of them wrong."""
    return TRUTH | {letter: verdict}


def wrong_a_noisy() -> dict:
    """Noisy losses are normal: the two players move in turn, on new batches each time. Do the
    samples of a reach all of the data?
    """
    return _but("a", "collapse")


def wrong_b_good_samples() -> dict:
    """The single point of b lies on the data at last, and is good there. But all 200 samples are at
    this point: their diversity is 0.00.
    """
    return _but("b", "healthy")


def wrong_b_winner() -> dict:
    """D has a small loss in b, but look at the samples: 200 noises give one point."""
    return _but("b", "D wins")


def wrong_c_balanced() -> dict:
    """In the last 100 steps of c, Loss_D is 1.34 and Loss_G is 0.79, close to balance. Yet the
    samples are in one clump that moves about, 0.38 times as far from each other as the reals are.
    Balanced losses do not rule out a collapse.
    """
    return _but("c", "healthy")


def wrong_d_small_losses() -> dict:
    """The losses of d are small because they are squares: balance is at 0.25, and the last 100
    steps have 0.20 and 0.23. D has not won.
    """
    return _but("d", "D wins")


def wrong_d_uneven() -> dict:
    """G covers some of d's clusters better than others, but its samples are spread around the whole
    ring: their diversity is 0.95.
    """
    return _but("d", "collapse")


def wrong_e_losses() -> dict:
    """Loss_D near 0 and Loss_G at 19 look like a collapse, but the samples of e are far from each
    other: their diversity is 0.79. They are only far from the data too, and D is always right.
    """
    return _but("e", "collapse")


def wrong_e_going_on() -> dict:
    """In e, Loss_G only rises, and the samples do not come closer to the data: after 1,600 steps,
    12 % of them are within 0.3 of a cluster, where in a it is 92 %.
    """
    return _but("e", "healthy")


def wrong_f_alike() -> dict:
    """The samples of f are alike, but so are its data: all of them are fours. G does what it is
    asked for. Look for the mistake in the folder of the data.
    """
    return _but("f", "collapse")


def wrong_g_different_noise() -> dict:
    """At first, the images of g differ by their noise. At step 800, nearly all of them are the same
    blot, though the data has ten digits: their diversity is 0.30.
    """
    return _but("g", "healthy")


def wrong_g_winner() -> dict:
    """At the end of g, Loss_D is 1.48 and Loss_G is 0.93: D cannot tell. But nearly all images are
    the same.
    """
    return _but("g", "D wins")


def wrong_h_bad_samples() -> dict:
    """The digits of h are not good yet, but they are different digits: their diversity is 0.91. Bad
    samples are not a collapse.
    """
    return _but("h", "collapse")


HINTS = (
    "Look at the samples before the losses: do they differ from each other as the data does?",
    "A collapse may lie on the data or beside it, and its losses may be balanced or not.",
    "Compare the samples with the data of the same run: what should vary?",
)
OFF_LIMITS = ()
