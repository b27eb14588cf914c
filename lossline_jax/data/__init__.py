"""Corpora, tokenizers, token stores and batches. Read corpora/prepare.py, then token_store.py and batches.py."""
