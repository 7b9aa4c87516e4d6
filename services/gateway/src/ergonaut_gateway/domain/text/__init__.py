"""The rules of models that read or write text: how tokens become vectors, how the next token is drawn, where an answer ends."""
