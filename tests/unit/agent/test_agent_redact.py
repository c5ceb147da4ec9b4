"""Nothing secret is in what is said of storage, however it got there; and what helps is left."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shoal_agent.storage.redact import HIDDEN, redact

# What secrets consist of: AWS's and Azure's keys, base64, what people call passwords.
SECRETS = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=_.~-", min_size=12, max_size=60
).map(lambda text: f"s3cr{text}T")
AROUND = st.text(st.characters(codec="utf-8", exclude_characters="\"'<>"), max_size=40)
FORMS = [
    "http://minio:{}@store:9000/bucket/key",
    'Could not connect to the endpoint URL: "https://key:{}@s3.example/bucket?list-type=2"',
    "https://{}@store/bucket",
    "https://store/bucket/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={}&X-Amz-Expires=60",
    "GET /bucket/key?X-Amz-Security-Token={} failed",
    "https://account.blob.core.windows.net/c/b?sv=2022&sig={}",
    "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request, Signature={}",
    "'Authorization': 'Bearer {}'",
    "x-amz-security-token: {}",
    "aws_secret_access_key={}",
    '{{"access_key_id": "k", "secret_access_key": "{}"}}',
    "{{'SessionToken': '{}', 'Expiration': 1}}",
    "<Error><Code>InvalidToken</Code><Token-0>{}</Token-0></Error>",
    "<StringToSign>{}</StringToSign>",
    "password = {}",
    "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
    "the token IQoJb3JpZ2luX2VjEA{0}{0}{0}{0} is expired",
    "token eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.{} was refused",
]


@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRETS, before=AROUND, after=AROUND)
def test_no_secret_is_left_in_any_form(form: str, secret: str, before: str, after: str) -> None:
    if "eyJ" in form or "IQoJ" in form:
        secret = "".join(c for c in secret if c.isalnum())
    if form.startswith("https://{}@"):
        secret = secret.replace("/", "")  # or it is host and path, with an @ in the path
    said = redact(f"{before} {form.format(secret)} {after}")
    assert secret not in said
    assert HIDDEN in said


@given(st.text(max_size=300))
def test_doing_it_twice_changes_nothing_more(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize("form", FORMS)
@given(secret=SECRETS)
def test_nor_does_it_for_what_holds_secrets(form: str, secret: str) -> None:
    once = redact(form.format(secret))
    assert redact(once) == once


@pytest.mark.parametrize(
    "said",
    [
        "S3 answered 403 AccessDenied for s3://bucket/models/v1@2/x at http://minio:9000 with Secret 'a'. Allow it.",
        "S3 answered 404: no object s3://bucket/m, and none below s3://bucket/m/, at http://minio:9000/x@y.",
        'annotate it serving.kserve.io/s3-useanoncredential: "true" for a public bucket.',
        "Secret 'a' has AWS_ACCESS_KEY_ID but no AWS_SECRET_ACCESS_KEY. Add the key AWS_SECRET_ACCESS_KEY to it.",
        "the credentials in Secret 'a' are not accepted. Correct its access key and secret key; a corrected Secret is "
        "noticed.",
        "Is it there? Basic authentication is what the store wants.",
    ],
)
def test_what_helps_is_left(said: str) -> None:
    assert redact(said) == said


def test_hosts_and_objects_are_left() -> None:
    assert redact("at http://key:word@store:9000/bucket/a/b.") == f"at http://{HIDDEN}@store:9000/bucket/a/b."
    assert redact('"https://store/bucket/key?X-Amz-Signature=12"') == f'"https://store/bucket/key?{HIDDEN}"'
    assert redact("http://key:p@ss/wo?rd@store/bucket") == f"http://{HIDDEN}@store/bucket"


@pytest.mark.parametrize(
    "piece", ["://a:", "?", "token", "authorization:", "bearer ", "<token", "-----BEGIN PRIVATE KEY-----", "eyJa", "a@"]
)
def test_a_long_text_takes_no_long_time(piece: str) -> None:
    begun = time.process_time()
    redact(piece * 2_000)
    assert time.process_time() - begun < 1.0
