"""MLServer's adaptive batching, when a request in a batch is wrong: that request fails, and none of its neighbours.

As it comes, MLServer lets every request of a batch fail with the one that the model refuses, and every request that
waits with one whose inputs cannot be merged. Here a batch that fails is asked again, request by request.

And a model that is loaded again under its name is batched like the first one, which MLServer forgets.
"""

from asyncio import Task
from collections.abc import Mapping
from functools import partial
from typing import Any

from mlserver.batching import adaptive, load_batching
from mlserver.batching.requests import BatchedRequests
from mlserver.utils import schedule_with_callback


class _Batch(BatchedRequests):  # type: ignore[misc]  # MLServer ships no types
    """A batch that may be unmergeable: then ``merged_request`` is None."""

    def __init__(self, inference_requests: Mapping[str, Any]) -> None:
        try:
            super().__init__(inference_requests)
        except Exception:
            self.inference_requests = inference_requests
            self.merged_request = None


async def _batcher(self: Any) -> None:
    async for batch in self._batch_requests():
        if batch.merged_request is None:
            _one_by_one(self, batch)
        else:
            schedule_with_callback(self._predict_fn(batch.merged_request), partial(_answered, self, batch))


def _one_by_one(batcher: Any, batch: _Batch) -> None:
    for number, request in batch.inference_requests.items():
        schedule_with_callback(batcher._predict_fn(request), partial(_answered_alone, batcher, number))


def _answered(batcher: Any, batch: _Batch, task: "Task[Any]") -> None:
    """All of a batch at once; one that fails is asked again, request by request."""
    try:
        responses = batch.split_response(task.result())
    except Exception:
        _one_by_one(batcher, batch)
        return
    for number, response in responses.items():
        _settle(batcher, number, response, None)


def _answered_alone(batcher: Any, number: str, task: "Task[Any]") -> None:
    error = task.exception()
    _settle(batcher, number, None if error else task.result(), error)


def _settle(batcher: Any, number: str, response: Any, error: BaseException | None) -> None:
    future = batcher._async_responses.get(number)
    if future is None or future.done():
        return  # its client has gone
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(response)


async def _batched_again(_: Any, model: Any) -> Any:
    """MLServer's hook for a model that takes the place of another one."""
    return await load_batching(model)


def install(registry: Any) -> None:
    """Once per process: this changes MLServer's classes."""
    registry._on_model_reload.append(_batched_again)
    adaptive.BatchedRequests = _Batch
    adaptive.AdaptiveBatcher._batcher = _batcher
