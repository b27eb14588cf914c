"""Minimise many small fits at once: problems, lanes, descent, starts and profiles. Read `problem.py` first."""
