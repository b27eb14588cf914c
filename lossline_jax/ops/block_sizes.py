"""Sizes of the blocks that array functions work in, without jax: plans count with the same ones."""

MAX_QUERY_BLOCKS = 8  # of attention and of the scan's chunks; each reads the keys up to its own end
MIN_QUERY_BLOCK = 32  # positions
MIN_LOGITS_CHUNK = 64  # positions of a sequence whose logits exist at once
SSD_CHUNK_SIZE = 256  # positions of a chunk of Mamba-2's scan on accelerators
CPU_SSD_CHUNK_SIZE = 32  # a quarter faster than 256 on CPU; 16 and 64 are no better
