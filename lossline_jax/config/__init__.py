"""The configs of a study, as frozen dataclasses without jax. Read study.py first, then model.py and validate.py."""
