"""`python -m lossline_jax` is `lossline-jax`."""

from lossline_jax.cli.main import main

if __name__ == "__main__":
    main()
