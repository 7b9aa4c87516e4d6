"""An OpenAI-compatible door that routes by the model's name to servers elsewhere.

`routes` reads the configuration, `domain` holds the rules, `service` asks upstreams, `door` answers on the gateway's HTTP port.
"""
