"""What of a message's subject the plumbing must know; everything else about an event is in its contract."""


def tenant_of(subject: str) -> str:
    """The tenant that a subject is about.

    >>> tenant_of("ergonaut.v1.default.runs.run.finished.run-1")
    'default'
    """
    parts = subject.split(".")
    return parts[2] if len(parts) > 2 else ""
