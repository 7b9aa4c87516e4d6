"""How an event looks on the wire: its body is its JSON, its CloudEvents 1.0 attributes and its trace are headers."""

from ergonaut.events import Event
from ergonaut_common.observe import trace_headers


def headers_of(event: Event) -> dict[str, str]:
    """Headers of an event's message; the id makes JetStream drop a repeat."""
    return {
        "Nats-Msg-Id": event.event_id,
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": event.event_id,
        "ce-type": f"ergonaut.{event.TYPE}.v1",
        "ce-source": f"/ergonaut/{event.tenant}",
        "ce-time": event.occurred_at.isoformat(),
        **trace_headers(),
    }


def tenant_of(subject: str) -> str:
    """The tenant that a subject is about.

    >>> tenant_of("ergonaut.v1.default.runs.run.finished.run-1")
    'default'
    """
    parts = subject.split(".")
    return parts[2] if len(parts) > 2 else ""
