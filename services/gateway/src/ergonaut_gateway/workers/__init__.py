"""Several processes that serve as one gateway: a parent that starts workers and replaces those that die, and what each worker
has in common with the others.

`parent` forks and looks after workers, `place` is what a worker has of them, `board` the numbers that all see, `channel` the line
between the two, `merging` makes one page of all their metrics, `neighbours` waits until all have what one has changed.
"""
