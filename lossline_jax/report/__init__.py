"""The HTML report of a study: its text, tables and figures. Read `page.py` first."""
