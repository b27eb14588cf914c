"""Readers of all kinds of corpora, and the prepared corpus on disk. Read read.py first, then prepare.py."""
