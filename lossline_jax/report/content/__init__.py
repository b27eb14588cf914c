"""The texts of the report, and the points and units of its figures and tables. Read `points.py` first."""
