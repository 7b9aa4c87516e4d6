"""The plumbing that every service shares, with no business words in it: settings, bus, rpc, auth, clock, observability."""
