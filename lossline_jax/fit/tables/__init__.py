"""Read tables of losses for the fits: clean rows, paired points, settings, copies and units. Read `rows.py` first."""
