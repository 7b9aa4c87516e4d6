"""The Open Inference Protocol, version 2, as pure functions between its wire forms and `domain`; no transport is known here."""
