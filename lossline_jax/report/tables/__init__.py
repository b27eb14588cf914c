"""The tables of the report and its downloads. Read `table.py` first: it defines cells, columns and tables."""
