"""The loops, compiled: one compute port, with the CPU (numba) and CUDA (numba-cuda) behind it, and plain twins under test."""
