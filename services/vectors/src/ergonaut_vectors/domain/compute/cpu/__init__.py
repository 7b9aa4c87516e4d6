"""Kernels compiled by numba for the machine's processor; each has a plain twin that a test compares."""
