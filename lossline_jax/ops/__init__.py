"""Array functions of the models, each in one file. Read `linear.py` and `norms.py` first, then `attention.py`."""
