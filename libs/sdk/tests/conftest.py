"""What holds for all tests of the SDK, however they are started."""

import os

# The command line looks for the terminal's width when it is loaded; whoever runs the tests must not set it for them.
os.environ.pop("COLUMNS", None)
