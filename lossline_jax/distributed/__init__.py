"""Devices, meshes, shardings and processes. Read `mesh.py` and `sharding.py` first, then `processes.py`."""
