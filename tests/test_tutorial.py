"""PyTorch's DCGAN tutorial runs, and the documentation lists each line of it that had to change."""

import re
import runpy
from pathlib import Path

import numpy as np

from minigan.models import dcgan

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests/dcgan_tutorial.py"


def test_pytorchs_dcgan_tutorial_trains(capsys):
    found = runpy.run_path(str(SCRIPT))
    assert capsys.readouterr().out.count("Loss_D: ") == 2
    losses = np.array([found["D_losses"], found["G_losses"]])
    assert losses.shape == (2, 6)  # 2 epochs of 3 batches
    assert np.isfinite(losses).all()
    assert losses[0, -1] < losses[0, 0]  # D learns to recognise noise
    assert [tuple(images.shape) for images in found["img_list"]] == [(64, 3, 64, 64)] * 2
    assert (found["img_list"][0].numpy() != found["img_list"][1].numpy()).any()
    ours = dcgan.Generator(8, 4), dcgan.Discriminator(4)
    for network, own in zip((found["netG"], found["netD"]), ours, strict=True):
        own.load_state_dict(network.state_dict())  # has the same names and shapes


def test_the_documentation_lists_each_line_that_had_to_change():
    script = SCRIPT.read_text(encoding="utf-8")
    changed = re.findall(r"^ *# PyTorch: (.+)\n *(.+)$", script, re.M)
    left_out = re.findall(r"^ *# PyTorch also: (.+)$", script, re.M)
    assert (len(changed), len(left_out)) == (6, 6)
    page = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    section = page.partition("## Coming from PyTorch")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \| (?:`(.+)` )?\|$", section, re.M)
    assert rows == changed + [(line, "") for line in left_out]
