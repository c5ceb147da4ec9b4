"""TokenReview at the real API server (authentication.k8s.io/v1); the operator's role needs ``create`` on it."""

import aiohttp
from kubernetes.aio.client import (
    ApiClient,
    AuthenticationV1Api,
    V1TokenReview,
    V1TokenReviewSpec,
)
from kubernetes.aio.client.exceptions import ApiException

from .identity import ReviewedToken, ReviewUnavailable

REVIEW_SECONDS = 10.0


class KubernetesReviews:
    """Call it with a token. Raises ReviewUnavailable with the API server's status, never with the token."""

    def __init__(self, api_client: ApiClient, audience: str) -> None:
        self._api = AuthenticationV1Api(api_client)
        self._audience = audience

    async def __call__(self, token: str) -> ReviewedToken:
        spec = V1TokenReviewSpec(token=token, audiences=[self._audience])
        try:
            review = await self._api.create_token_review(V1TokenReview(spec=spec), _request_timeout=REVIEW_SECONDS)
        except ApiException as error:
            # Its text holds the response, which may quote the request: only the status is passed on.
            raise ReviewUnavailable(f"the API server answered {error.status} to a TokenReview") from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ReviewUnavailable(f"the API server could not be asked: {type(error).__name__}") from None
        status = review.status
        if status is None:
            return ReviewedToken(authenticated=False)
        user = status.user
        return ReviewedToken(
            authenticated=bool(status.authenticated),
            username=(user.username or "") if user else "",
            audiences=tuple(status.audiences or ()),
            extra=(user.extra or {}) if user else {},
            error=status.error or "",
        )
