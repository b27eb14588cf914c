"""The command line `lossline-jax`. Read main.py first, then options.py, which has the flags of every verb."""
