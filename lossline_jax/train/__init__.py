"""Training of one run: the loop, the compiled step, the optimiser and the checkpoints. Read `loop.py` first."""
