"""The tokenizers of all kinds. Read build.py first, which has their interface, then base.py."""
