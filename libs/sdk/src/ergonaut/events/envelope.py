"""What travels around an event in NATS: its CloudEvents 1.0 attributes, as headers. Used by services and by the tracker."""

from ergonaut.events.base import Event


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
    }
