"""What the gateway knows of models, tensors, predictions and how they are counted; pure, and free of any wire format."""
