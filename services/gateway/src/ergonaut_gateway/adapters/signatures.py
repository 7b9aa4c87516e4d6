"""Signatures of models in the format of OpenSSF model signing: checked by public keys that the settings name, and made by the
gateway's own key for models that it makes itself."""

from collections.abc import Sequence
from pathlib import Path

from ergonaut.errors import Refused
from ergonaut.signing import TrustedKey, digests_of, read_bundle, read_keys, sign, signed_by
from ergonaut_common.key_files import check_private

FUSING_KEY = "fusing_key"
"""The setting that names the file."""


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


class OwnKey:
    """Fills `ModelSigner`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def load(cls, path: Path, trusted: TrustedKeys) -> "OwnKey":
        """A private key in a PEM file. Raises Refused for one that cannot be used, that others may read or that nobody trusts."""
        check_private(path, field=FUSING_KEY)
        key = cls(path)
        # Any file will do to see whose signature it is.
        sample = Path(__file__)
        (digest,) = digests_of(sample).values()
        if not trusted.check(key.sign(sample), f"sha256-{digest}"):
            told = f"{path} is not trusted; add its public key to signature_keys, here and at every other gateway"
            raise Refused(told, field=FUSING_KEY)
        return key

    def sign(self, path: Path) -> str:
        try:
            return sign(path, self._path)
        except Refused as error:
            raise Refused(str(error).removeprefix(f"{error.field}: "), field=FUSING_KEY) from error
