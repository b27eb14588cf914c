"""The entry point of `python -m lossline_jax`, which is the same as `lossline-jax`."""

from lossline_jax.cli.main import main

if __name__ == "__main__":
    main()
