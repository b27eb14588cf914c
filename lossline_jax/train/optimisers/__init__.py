"""Optimisers: how the gradient of a batch changes the parameters. Read `make.make_update_rule` first."""
