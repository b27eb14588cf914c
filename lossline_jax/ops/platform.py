"""The kind of device that a program is traced for."""

import jax


def platform() -> str:
    """Return `cpu`, `gpu` or `tpu`: the platform of the mesh of `jax.set_mesh`, or else of the default devices."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
