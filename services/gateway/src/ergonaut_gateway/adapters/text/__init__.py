"""Tokenizers and language models of files. All of it needs the extra `text`, and is loaded only where a route names one."""
