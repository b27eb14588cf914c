"""The figures of the report, drawn with matplotlib. Read `plot.py` first: it defines what a figure consists of."""
