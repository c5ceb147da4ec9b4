"""What boto3 and obstore raise, as reasons that stay and messages that say what, where and what to do. Pure."""

import re

from botocore import exceptions as boto
from obstore.exceptions import BaseError

from . import (
    ARTIFACT_CHANGED,
    ARTIFACT_NOT_FOUND,
    BUCKET_NOT_FOUND,
    NO_SPACE,
    STORAGE_ACCESS_DENIED,
    STORAGE_CREDENTIALS_INVALID,
    STORAGE_UNAVAILABLE,
    STORAGE_UNREACHABLE,
    StorageError,
    disk_full,
)
from .obstore_errors import Answer, BadCertificate, NoAnswer, short, understand

_BAD_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "AuthorizationHeaderMalformed",
        "InvalidClientTokenId",
        "XAdminUserNotFound",  # versitygw, with 404
    }
)
_CREDENTIALS = re.compile(r"External AWS credential provider: (.*)")


def _as_boto(error: Exception, endpoint: str) -> Exception:
    """What boto3 would have raised."""
    if isinstance(error, BaseError) and (found := _CREDENTIALS.search(str(error))) and "status code" not in str(error):
        return boto.CredentialRetrievalError(provider="the AWS environment", error_msg=found[1])
    understood = understand(error)
    if isinstance(understood, Answer):
        answer = {"Code": understood.code or str(understood.status), "Message": understood.said}
        return boto.ClientError(
            {"Error": answer, "ResponseMetadata": {"HTTPStatusCode": understood.status}},  # type: ignore[typeddict-item]
            "",
        )
    if isinstance(understood, BadCertificate):
        return boto.SSLError(endpoint_url=endpoint, error=ValueError(understood.why))
    if isinstance(understood, NoAnswer):
        return OSError(understood.why)
    return error


def explain(error: Exception, key: str, bucket: str, endpoint: str, origin: str) -> StorageError:
    """The StorageError of an exception that a call about ``s3://bucket/key`` raised."""
    where = f"s3://{bucket}/{key} at {endpoint}"
    error = _as_boto(error, endpoint)
    if isinstance(error, boto.ClientError):
        return _answered(error, where, bucket, endpoint, origin)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        return StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"No S3 credentials for {where} in {origin}: {short(str(error))}. Add a Secret with AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY to the predictor's service account, or annotate it "
            'serving.kserve.io/s3-useanoncredential: "true" for a public bucket.',
        )
    if isinstance(error, boto.SSLError):
        return StorageError(
            STORAGE_UNREACHABLE,
            f"TLS to {endpoint} failed for {where}: {short(str(error))}. Set the Secret's annotation "
            'serving.kserve.io/s3-cabundle to the server\'s CA, or s3-usehttps: "0" if it speaks plain HTTP.',
        )
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return disk_full(error)
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError | boto.EndpointConnectionError | OSError):
        return StorageError(
            STORAGE_UNREACHABLE,
            f"Cannot reach {where}: {short(str(error))}. Check the endpoint in {origin} "
            "(annotation serving.kserve.io/s3-endpoint) and that the pod's network policy lets it out.",
        )
    if isinstance(error, boto.ParamValidationError | boto.InvalidEndpointConfigurationError | ValueError):
        return StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"The S3 settings in {origin} cannot be used for {where}: {short(str(error))}. Check endpoint and region.",
        )
    return StorageError(STORAGE_UNAVAILABLE, f"S3 failed for {where}: {type(error).__name__}: {short(str(error))}.")


def _answered(error: boto.ClientError, where: str, bucket: str, endpoint: str, origin: str) -> StorageError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    answer = f"S3 answered {status} {code}".rstrip() if code != str(status) else f"S3 answered {status}"
    if code == "NoSuchBucket":
        return StorageError(
            BUCKET_NOT_FOUND,
            f"{answer}: there is no bucket {bucket!r} at {endpoint} (asked with {origin}). Create it, or correct "
            "storageUri or the endpoint.",
        )
    if code in _BAD_KEYS or status == 401:
        return StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"{answer} for {where}: the credentials in {origin} are not accepted. Correct its access key and secret "
            "key; a corrected Secret is noticed.",
        )
    if status == 403 or code in {"AccessDenied", "AllAccessDisabled"}:
        return StorageError(
            STORAGE_ACCESS_DENIED,
            f"{answer} for {where} with {origin}. Allow s3:ListBucket on the bucket and s3:GetObject on its objects, "
            "or use other credentials.",
        )
    if code in {"NoSuchKey", "NotFound", "404"} or (status == 404 and not code):
        return StorageError(
            ARTIFACT_NOT_FOUND,
            f"{answer} for {where}. Upload the artifact, or correct storageUri; it is looked for again.",
        )
    if status == 412 or code == "PreconditionFailed":
        return StorageError(ARTIFACT_CHANGED, f"{where} changed while it was being fetched. It is fetched again.")
    if status in (301, 307, 400) and code in {"PermanentRedirect", "301", "IllegalLocationConstraintException"}:
        return StorageError(
            STORAGE_CREDENTIALS_INVALID,
            f"{answer} for {where}: the bucket is in another region. Set serving.kserve.io/s3-region in {origin}.",
        )
    message = str(error.response.get("Error", {}).get("Message", ""))[:200]
    return StorageError(
        STORAGE_UNAVAILABLE, f"{answer} for {where}{f': {message}' if message else ''}. It is tried again."
    )
