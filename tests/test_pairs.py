"""Every member on every kind of data for which it makes sense, with every network that fits."""

import os
from pathlib import Path

import celeba_factory
import pytest
import test_cifar10
import test_classes
import test_mnist
import tiny

from minigan.commands import main
from minigan.data.attributes import FILE
from minigan.data.kinds import KINDS
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.models import FOR_IMAGES
from minigan.training.plan import choose
from minigan.training.run import Run

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
NARROW = ["--ngf", "4", "--ndf", "4", "--nz", "4", "--batch-size", "4", "--workers", "1"]
NARROW += ["--device", "cpu", "--steps", "2"]
REFUSED = {("wgan", "sngan")}  # clipping and spectral norm: see chapter 11


def data_of(member: str, kind: str, folder: Path) -> list[str]:
    """The flags that give a small data set of this kind, whose files are written to the folder."""
    count = 12
    if kind == "celeba":
        celeba_factory.make(folder, count)
        (folder / FILE).write_bytes(celeba_factory.attribute_list(count))
    elif kind == "folder":
        domains = MEMBERS[member].translates
        celeba_factory.write_files(folder, test_classes.DOMAINS if domains else test_classes.PETS)
    elif kind in ("mnist", "fashion-mnist"):
        test_mnist.written(folder)
    elif kind == "cifar10":
        test_cifar10.folder(folder)
    else:
        return [] if KINDS[kind].points else ["--max-images", str(count)]
    return ["--dataroot", str(folder)]


def condition(member: str, kind: str) -> dict[str, str]:
    """The option that divides CelebA into classes, if the member needs them."""
    needed = MEMBERS[member].conditional and kind == "celeba"
    return {"condition": "Smiling"} if needed else {}


def makes_sense(member: str, kind: str) -> bool:
    """Whether it can start. A test in test_docs.py compares docs/pairs.md with this."""
    try:
        choose(member, {"data": kind, **condition(member, kind)})
    except UserError:
        return False
    return True


@pytest.mark.skipif(not DEEP, reason="takes minutes: deep")
@pytest.mark.parametrize(
    ("member", "kind"), [(m, k) for m in MEMBERS for k in KINDS if makes_sense(m, k)]
)
def test_each_pair_trains_and_draws_samples(member, kind, tmp_path, monkeypatch):
    tiny.hurry(monkeypatch)
    data = ["--data", kind, *data_of(member, kind, tmp_path / "data")]
    data += [word for name, text in condition(member, kind).items() for word in (f"--{name}", text)]
    has_choice = not KINDS[kind].points and "network" in MEMBERS[member].Options.names()
    for network in ["mlp", *FOR_IMAGES] if has_choice else ["only"]:
        flags = ["--network", network] if has_choice else []
        if network == "sngan" and KINDS[kind].image_size == 28:
            flags += ["--image-size", "32"]  # see docs/pairs.md
        out = tmp_path / network
        narrow = tiny.without_noise(member, NARROW)
        if MEMBERS[member].translates:
            narrow += ["--batch-size", "2"]  # a folder of two domains has two images of each
        code = main(["train", member, *data, *narrow, *flags, "--out", str(out)])
        assert code == ((member, network) in REFUSED)
        if code:
            continue
        (folder,) = out.glob("[0-9]*")
        assert Run(folder).metrics()[-1]["step"] == 2
        assert main(["sample", str(folder), "--n", "20", "--device", "cpu"]) == 0
        assert (folder / "generated" / "grid.png").stat().st_size
