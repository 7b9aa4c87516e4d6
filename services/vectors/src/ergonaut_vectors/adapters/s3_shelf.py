"""The port `Shelf` in a bucket of S3 or of what speaks like it. Needs the extra `s3`; imported where a setting names a bucket."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ergonaut.errors import NotFound, Refused, Unavailable
from ergonaut_vectors.archive.ports import CLEARED_MAX

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60
ATTEMPTS_MAX = 4
"""Of one request, with growing pauses between them: S3 asks its callers to slow down now and then."""

T = TypeVar("T")


class S3Shelf:
    """Files as objects under a prefix. Keys, region and the like are found by boto3: in environment, files, the machine."""

    def __init__(self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None) -> None:
        retries: Any = {"max_attempts": ATTEMPTS_MAX, "mode": "standard"}
        config = Config(connect_timeout=CONNECT_TIMEOUT_SECONDS, read_timeout=READ_TIMEOUT_SECONDS, retries=retries)
        self._client: Any = boto3.client("s3", endpoint_url=endpoint_url, config=config)
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    async def put(self, name: str, source: Path) -> None:
        await self._run(lambda: self._client.upload_file(str(source), self._bucket, self._prefix + name), name)

    async def fetch(self, name: str, target: Path) -> None:
        await self._run(lambda: self._client.download_file(self._bucket, self._prefix + name, str(target)), name)

    async def names(self, prefix: str) -> Sequence[str]:
        def listed() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            return [each["Key"].removeprefix(self._prefix) for page in pages for each in page.get("Contents", ())]

        return sorted(await self._run(listed, prefix))

    async def drop(self, name: str) -> None:
        await self._run(lambda: self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name), name)

    async def clear(self, tenant: str, before: datetime) -> None:
        """Abort uploads in parts; what is small enough for one request is there as a whole or not at all."""
        prefix = f"{self._prefix}files/{tenant}/"

        def cleared() -> None:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
            begun = (each for page in pages for each in page.get("Uploads", ()))
            # A put that lives goes on long after it began where the file is large, but not for a day.
            left = (each for each in begun if each["Initiated"] < before)
            for each in islice(left, CLEARED_MAX):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"])

        await self._run(cleared, prefix)

    async def _run(self, ask: Callable[[], T], name: str) -> T:
        where = f"{name} in the bucket {self._bucket}"
        try:
            return await asyncio.to_thread(ask)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            if code in ("404", "NoSuchKey"):
                raise NotFound(f"{name} is not kept") from error
            if code in ("403", "AccessDenied", "NoSuchBucket"):
                raise Refused(f"S3 does not let us at {where}: {error}", field="collection") from error
            raise Unavailable(f"S3 does not answer for {where}: {error}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise Unavailable(f"S3 does not answer for {where}: {error}") from error
