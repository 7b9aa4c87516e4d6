"""The books' form, step by step: numbered SQL files, each applied once and never changed after that."""
