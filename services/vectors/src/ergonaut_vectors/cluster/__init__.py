"""Several nodes that hold one collection together: who is there, who is asked, what moves, and that all replicas hold the same.

The rules are in `domain/placing`; here is what waits and asks. The service and its door call.
"""
