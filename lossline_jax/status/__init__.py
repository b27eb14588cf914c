"""The status of a study's runs, read from the study's folder without jax. Read `runs.py` first."""
