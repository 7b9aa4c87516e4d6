"""Brute force and scans of lists on NVIDIA's GPUs, by numba-cuda (the extra `cuda`); `place.py` is the port's side of it."""
