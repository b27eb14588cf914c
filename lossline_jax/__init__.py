"""lossline: a JAX laboratory for loss-to-loss scaling laws."""

__version__ = "0.1.0"
