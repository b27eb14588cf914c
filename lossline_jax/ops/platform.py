"""Which kind of device a program is traced for."""

import jax


def platform() -> str:
    """`cpu`, `gpu` or `tpu`: of the mesh of `jax.set_mesh`, else of the default devices."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
