"""The networks: one file per architecture, and what they share. Members of `gans` build and call them.

dcgan.py         the documented DCGAN, for images
mlp.py           fully connected, for points and images
projected.py     the DCGAN of the paper's figure, twice as wide
sngan.py         the SNGAN, with spectral norm in D
progressive.py   networks that grow from 4 x 4 pixels
stylegan.py      styles for each layer of G
cyclegan.py      from images to images, with a score for each patch

base.py          labels in G; labels, features and options of D
layers.py        layers that look at a whole batch; pixel norm
equalized.py     layers that scale their weights, so that all learn at the same speed
conditional.py   one-hot labels, and batch norm with a scale and shift for each class
first_values.py  the distributions of first weights

A generator maps z (N, nz), with labels y (N,) if it has classes, to samples. A discriminator has
`features(x, y)`, what enters its last layer, and `logits(x, y)`, its scores before any sigmoid. The
networks of cyclegan.py have none of these: they are called with images. Those of progressive.py are
called with z or images, and a level. Those of stylegan.py are called with z or images alone.
"""

from . import dcgan, projected, sngan

FOR_IMAGES = {"dcgan": dcgan, "projected": projected, "sngan": sngan}  # by the name in --network
WITHOUT_NORM = ("mlp", "sngan")  # networks whose D has no normalisation
