"""Whether a file may be loaded: its content is what its record says, and its signature is what the policy wants."""

import asyncio
import hashlib
from pathlib import Path

from ergonaut.errors import Broken
from ergonaut_common.observe import get_logger
from ergonaut_gateway.domain.models import ModelRecord
from ergonaut_gateway.domain.trust import SignaturePolicy, check_admitted, shortcoming
from ergonaut_gateway.ports import SignatureChecker

BLOCK_BYTES = 1024 * 1024

log = get_logger(__name__)


class Trust:
    """Asked at each deployment and again at each load."""

    def __init__(self, checker: SignatureChecker, policy: SignaturePolicy) -> None:
        self._checker = checker
        self._policy = policy

    async def check(self, digest: str, bundle: str, *, model: str) -> str:
        """The id of the key that signed the file, or nothing. Raises Refused for a forgery, and where the policy wants more."""
        signed_by = await asyncio.to_thread(self._checker.check, bundle, digest) if bundle else ""
        missing = shortcoming(bundle=bundle, signed_by=signed_by)
        check_admitted(self._policy, missing)
        if missing and self._policy is SignaturePolicy.WARN:
            log.warning("model not trusted", model=model, digest=digest, because=f"the file {missing}")
        return signed_by

    async def check_file(self, record: ModelRecord, path: Path) -> None:
        """Raise Broken where a file is not that of the record, else as `check` does."""
        await self.check_content(record, path)
        await self.check(record.digest, record.signature_bundle, model=record.name)

    async def check_content(self, record: ModelRecord, path: Path) -> None:
        """Raise Broken where a file is not that of the record."""
        digest = await asyncio.to_thread(_digest_of, path)
        if digest != record.digest:
            raise Broken(
                f"the file of version {record.version} of model {record.name} is not the one that was deployed; deploy it anew"
            )


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return f"sha256-{digest.hexdigest()}"
