"""Devices and processes: meshes, multi-process jobs, batched maps."""
