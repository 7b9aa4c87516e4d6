"""What the scheduler uses of the world, one file a neighbour; they translate and never decide."""
