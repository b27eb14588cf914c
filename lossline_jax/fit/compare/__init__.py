"""Compare loss-to-loss lines: does a factor of training move the line? Read `compare_lines.py` first."""
