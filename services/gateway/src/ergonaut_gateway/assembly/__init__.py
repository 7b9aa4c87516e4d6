"""Parts of the gateway as its settings want them, topic by topic; `main` puts them together. Only these two name adapters."""
