"""Data: where images come from, the cache that holds them decoded, and batches in a seeded order."""
