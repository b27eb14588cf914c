"""Language models as pure functions. Read `model.py` first, then `decoder.py` and one of the blocks."""
