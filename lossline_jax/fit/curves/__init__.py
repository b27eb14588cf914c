"""Fit and combine curves: lines, compute laws, crossings and data mixtures. Read `line.py` first."""
