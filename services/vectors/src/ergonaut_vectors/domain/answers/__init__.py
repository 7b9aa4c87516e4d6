"""What callers are answered, of the views of a collection's shards: pure, and the same for one shard and for many."""
