"""Collections as they were: snapshots on a shelf outside of this machine, restored as they are or to a moment, copies, exports.

What is kept is brought up to date by a replica of its own, from what the shard has saved and the rest of its log; so nothing
here holds up the shard at work, and a snapshot can be made of one that no process has in memory.
"""
