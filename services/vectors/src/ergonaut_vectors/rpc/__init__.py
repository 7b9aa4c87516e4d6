"""The gRPC door: translates between `ergonaut.api.vectors.v1` and the service's words. `door.py` has it whole."""
