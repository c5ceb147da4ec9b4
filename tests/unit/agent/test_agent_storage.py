"""Errors of S3, by their reasons."""

import pytest
from botocore import exceptions as boto
from obstore import exceptions as obs
from shoal_agent.storage.s3_errors import explain

from .storage.stores import client_error


def _answered(kind: type[Exception], status: int, code: str) -> Exception:
    """As obstore says it."""
    body = f"<Error><Code>{code}</Code><Message>said</Message></Error>" if code else ""
    return kind(
        f"Error performing GET http://s3/bucket/k in 1ms - Server returned non-2xx status code: {status} X: {body}"
    )


def _not_sent(cause: str) -> Exception:
    return obs.GenericError(
        f"Error performing GET http://s3/k in 1ms - HTTP error: error sending request\n\nDebug source:\n{cause}"
    )


@pytest.mark.parametrize(
    ("error", "reason", "hint"),
    [
        (client_error(403, "AccessDenied"), "StorageAccessDenied", "s3:ListBucket"),
        (client_error(403, "SignatureDoesNotMatch"), "StorageCredentialsInvalid", "secret"),
        (client_error(403, "InvalidAccessKeyId"), "StorageCredentialsInvalid", "Secret 'a'"),
        (client_error(404, "XAdminUserNotFound"), "StorageCredentialsInvalid", "404"),
        (client_error(400, "ExpiredToken"), "StorageCredentialsInvalid", "ExpiredToken"),
        (client_error(404, "NoSuchBucket"), "BucketNotFound", "'bucket'"),
        (client_error(404, "NoSuchKey"), "ArtifactNotFound", "Upload"),
        (client_error(412, "PreconditionFailed"), "ArtifactChanged", "again"),
        (client_error(301, "PermanentRedirect"), "StorageCredentialsInvalid", "s3-region"),
        (client_error(503, "SlowDown"), "StorageUnavailable", "503 SlowDown"),
        (client_error(500, "InternalError"), "StorageUnavailable", "500"),
        (boto.EndpointConnectionError(endpoint_url="http://s3"), "StorageUnreachable", "s3-endpoint"),
        (boto.ConnectTimeoutError(endpoint_url="http://s3"), "StorageUnreachable", "http://s3"),
        (
            boto.SSLError(endpoint_url="https://s3", error=ValueError("self-signed")),
            "StorageUnreachable",
            "s3-cabundle",
        ),
        (boto.NoCredentialsError(), "StorageCredentialsInvalid", "useanoncredential"),
        (ValueError("Invalid endpoint"), "StorageCredentialsInvalid", "Invalid endpoint"),
        (OSError(28, "No space left on device"), "DiskFull", "max-disk-bytes"),
        (_answered(obs.PermissionDeniedError, 403, "AccessDenied"), "StorageAccessDenied", "403 AccessDenied"),
        (_answered(obs.GenericError, 403, "SignatureDoesNotMatch"), "StorageCredentialsInvalid", "secret"),
        (_answered(FileNotFoundError, 404, "NoSuchKey"), "ArtifactNotFound", "Upload"),
        (_answered(FileNotFoundError, 404, ""), "ArtifactNotFound", "S3 answered 404 for"),
        (_answered(obs.GenericError, 404, "NoSuchBucket"), "BucketNotFound", "'bucket'"),
        (_answered(obs.PreconditionError, 412, "PreconditionFailed"), "ArtifactChanged", "again"),
        (_answered(obs.GenericError, 503, "SlowDown"), "StorageUnavailable", "503 SlowDown for"),
        (
            obs.UnauthenticatedError("External AWS credential provider: NoCredentialsError: Unable to locate them"),
            "StorageCredentialsInvalid",
            "useanoncredential",
        ),
        (
            _not_sent('ConnectError("dns error", Custom { error: "no such host" })'),
            "StorageUnreachable",
            "no such host",
        ),
        (_not_sent('Os { code: 111, message: "Connection refused" }'), "StorageUnreachable", "Connection refused"),
        (_not_sent("TimedOut"), "StorageUnreachable", "took too long"),
        (_not_sent("error: InvalidCertificate(\n   UnknownIssuer,\n)"), "StorageUnreachable", "s3-cabundle"),
        (obs.GenericError("Generic S3 error: NotPartial\n\nDebug source:\nX"), "StorageUnavailable", "NotPartial"),
    ],
)
def test_every_error_has_a_reason_and_says_what_to_do(error: Exception, reason: str, hint: str) -> None:
    explained = explain(error, "m1/a", "bucket", "http://s3", "Secret 'a'")
    assert explained.reason == reason
    assert hint in explained.message
