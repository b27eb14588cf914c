"""The verbs of a study, from `prepare` to `report`. Read `study.py` first: it has one function per verb."""
