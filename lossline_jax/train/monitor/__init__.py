"""Reports on a run while it is trained: step log, progress, timing, traces. Read `monitor.py` first."""
