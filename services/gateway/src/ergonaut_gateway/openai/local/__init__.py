"""Models that run in this process, as upstreams: vectors by models of the registry, answers by language models of folders."""
