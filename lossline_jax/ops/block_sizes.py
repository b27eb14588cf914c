"""The sizes of the blocks that array functions work in, in positions. No jax here, because plans read them too."""

MAX_QUERY_BLOCKS = 8  # blocks of queries in attention and in a tree of SSD; each reads the keys up to its own end
MIN_QUERY_BLOCK = 32  # positions of a block of queries, at least
MIN_LOGITS_CHUNK = 64  # positions of a sequence whose logits exist at once, at least
SSD_CHUNK_SIZE = 256  # positions of a chunk of Mamba-2's scan on accelerators
CPU_SSD_CHUNK_SIZE = 32  # positions on CPU; measured: a quarter faster than 256, and 16 and 64 are no better
