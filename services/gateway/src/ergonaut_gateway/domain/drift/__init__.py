"""Whether what a model sees and says still looks as it did: sketches that merge, distances between them, and when to speak."""
