"""The experiments that come with lossline. In a wheel this folder is the package `lossline_jax.experiments`."""
