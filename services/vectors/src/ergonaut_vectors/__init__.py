"""Collections of vectors, searched by nearness. Promises that what was acknowledged is found, after a crash too.

Reads nothing but its own logs; each collection's log is a JetStream stream, and its HNSW graph in memory is a cache of that
log. Emits `vectors.collection.created` and `vectors.collection.dropped`; answers `ergonaut.api.vectors.v1.VectorsService`.
"""
