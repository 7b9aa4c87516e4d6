"""Where the parts of a collection are: ids to slots, slots to shards, shards to nodes; how that changes while all goes on."""
