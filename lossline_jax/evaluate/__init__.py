"""Evaluation of checkpoints: tokenise a suite, pack its rows, score them, and make loss rows. Read `suite` first."""
