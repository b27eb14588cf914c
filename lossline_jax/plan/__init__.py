"""The plan of a study before it runs: tokens, FLOPs, memory, time and cost. Read `plan.py` first."""
