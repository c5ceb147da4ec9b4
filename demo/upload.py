"""Uploads folders to S3, skipping what an earlier run already put there."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_AT_ONCE: Final = 8


def ensure_bucket(client: "S3Client", bucket: str) -> None:
    """Create a bucket unless it is there."""
    if bucket not in {found["Name"] for found in client.list_buckets().get("Buckets", [])}:
        client.create_bucket(Bucket=bucket)


def upload_folders(client: "S3Client", bucket: str, folders: list[Path]) -> int:
    """Put each folder's files under ``<folder name>/``; the number of files that were not there yet."""
    files = {f"{folder.name}/{file.name}": file for folder in folders for file in sorted(folder.iterdir())}
    return upload_files(client, bucket, files)


def upload_files(client: "S3Client", bucket: str, files: Mapping[str, Path]) -> int:
    """Put files under their keys; the number of those that were not there yet."""
    present = _sizes_and_tags(client, bucket)
    missing = [(key, file) for key, file in files.items() if present.get(key) != _tag(file)]

    def put(entry: tuple[str, Path]) -> None:
        client.upload_file(str(entry[1]), bucket, entry[0])

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(put, missing))
    return len(missing)


def _sizes_and_tags(client: "S3Client", bucket: str) -> dict[str, str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {entry["Key"]: entry["ETag"].strip('"') for page in pages for entry in page.get("Contents", [])}


def _tag(file: Path) -> str:
    """The ETag of an object put in one piece."""
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
