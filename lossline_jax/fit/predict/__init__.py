"""Predict the losses of runs that nobody has trained, and test such predictions on runs that are held out.

Read `table_forecast.py` first, then `forecast.py`.
"""
