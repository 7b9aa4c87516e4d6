"""Indexes over the immutable rows of one segment: exact, graph, lists, codes; `port.py` says what each of them can do."""
