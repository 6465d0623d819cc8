"""Data: where images come from, the cache that holds them decoded, and batches in a seeded order.

source.py      what a source of images is, and its errors
faces.py       a source of drawn faces
celeba.py      opens a zip or a folder as a source: archive.py, folder.py, imagefiles.py (what
               they share), listing.py (which files are images), decoding.py (bytes to array),
               attributes.py (CelebA's list of attributes)
cache.py       a source's images as one array on disk, decoded once by workers.py
loader.py      batches of the array
"""
