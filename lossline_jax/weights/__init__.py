"""Weights of other programs: import into checkpoints and export from checkpoints. Read `exchange` first."""
