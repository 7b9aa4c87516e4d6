"""`python -m ergonaut` is the command line."""

from ergonaut.cli import main

if __name__ == "__main__":
    main()
