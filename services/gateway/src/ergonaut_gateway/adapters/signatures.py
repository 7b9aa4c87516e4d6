"""Signatures of models in the format of OpenSSF model signing, checked by public keys that the settings name."""

from collections.abc import Sequence
from pathlib import Path

from ergonaut.errors import Refused
from ergonaut.signing import TrustedKey, read_bundle, read_keys, signed_by


class TrustedKeys:
    """Fills `SignatureChecker`."""

    def __init__(self, keys: Sequence[TrustedKey]) -> None:
        self._keys = keys

    @classmethod
    def load(cls, paths: Sequence[Path]) -> "TrustedKeys":
        """Read public keys from PEM files. Raises Refused for one that cannot be used."""
        return cls(read_keys(paths))

    def check(self, bundle: str, digest: str) -> str:
        read = read_bundle(bundle)
        key = signed_by(read, self._keys)
        if [f"sha256-{signed}" for signed in read.files.values()] != [digest]:
            # One file and no more: a signature of a folder does not say which of its files may be served alone.
            told = (
                f"is of {len(read.files)} files"
                if len(read.files) != 1
                else "is of another file, or the file was changed"
            )
            raise Refused(f"{told}; sign exactly the file that is deployed", field="signature")
        return key.id if key is not None else ""
