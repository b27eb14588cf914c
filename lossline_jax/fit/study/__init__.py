"""Fit all groups of a table: lines, comparisons of lines, compute laws and declared laws. Read `fit_study.py` first."""
