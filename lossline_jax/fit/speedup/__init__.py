"""Measure how much less compute a level of a factor needs for the same loss. Start with `compare_compute.py`."""
