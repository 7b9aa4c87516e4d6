"""Files of private keys, which nobody but who serves may read. Read when a gateway starts."""

import stat
from pathlib import Path

from ergonaut.errors import Refused


def check_private(path: Path, *, field: str) -> None:
    """Raise Refused, for this field, where a private key's file is not there or open to every user of the machine."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", field=field) from error
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise Refused(f"{path} can be read or written by every user; take that away (chmod o-rwx)", field=field)
