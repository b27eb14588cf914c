"""Fit Sloth's skill law: many benchmarks through a few latent skills of model families. Read `fit.py` first."""
