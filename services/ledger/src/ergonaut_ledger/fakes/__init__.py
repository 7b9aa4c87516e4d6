"""In-memory stand-ins for the ports, one file beside each group of ports; each passes the contract test of the real ones."""
