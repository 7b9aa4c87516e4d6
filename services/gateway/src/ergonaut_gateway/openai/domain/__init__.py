"""The rules of the OpenAI-compatible door, without any I/O: limits, breakers, the choice of upstream, figures of usage."""
