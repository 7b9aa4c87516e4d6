"""What fills the ports: JetStream's key-value and object stores, and onnxruntime."""

import os

# Read by onnxruntime when it is loaded: it would keep an id of this machine, and tell its makers which models it runs.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
