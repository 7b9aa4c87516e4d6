"""What fills the ports: JetStream's key-value and object stores, and onnxruntime."""
