"""Packing of the texts of a suite into rows of few fixed lengths. Read `windows` first, then `pack` and `rows`."""
