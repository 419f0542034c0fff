"""Devices and processes: meshes, jobs of several processes, batched maps."""
