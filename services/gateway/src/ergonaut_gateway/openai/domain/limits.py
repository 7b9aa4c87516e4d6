"""How much a tenant may ask of a route: token buckets that fill evenly over a minute. The service takes from them."""

MINUTE_SECONDS = 60.0


class Bucket:
    """Fills at `per_minute` up to one minute's worth; what is spent afterwards may bring it below nothing."""

    def __init__(self, per_minute: float, now_seconds: float) -> None:
        self.per_minute = per_minute
        self._level = per_minute
        self._at_seconds = now_seconds

    def wait_seconds(self, amount: float, now_seconds: float) -> float:
        """Seconds until the amount would be there; 0 where it is there now."""
        return max(0.0, (amount - self.level(now_seconds)) * MINUTE_SECONDS / self.per_minute)

    def spend(self, amount: float, now_seconds: float) -> None:
        """Take an amount, whether it is there or not."""
        self._level = self.level(now_seconds) - amount
        self._at_seconds = now_seconds

    def level(self, now_seconds: float) -> float:
        """What is there now."""
        filled = (now_seconds - self._at_seconds) * self.per_minute / MINUTE_SECONDS
        return min(self.per_minute, self._level + filled)
