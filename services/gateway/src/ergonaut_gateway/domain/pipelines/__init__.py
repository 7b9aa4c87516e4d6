"""Pipelines: graphs of models under one name. `spec` says what people write, `checking` makes of it a graph that fits."""
