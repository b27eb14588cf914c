"""Compilation of a study's programs for a TPU slice that is not attached. Read `check.py` first."""
