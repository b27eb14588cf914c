"""The files of a study: their paths, atomic writes, locks and readers. Read files.py first, then paths.py."""
