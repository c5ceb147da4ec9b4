"""What is said where a container of SageMaker's contract has no memory left."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.component.agent.parts import eventually

from .conftest import a_life
from .kits.sagemaker import KIT
from .life import Life

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(loop_scope="module")
async def pod() -> AsyncIterator[Life]:
    async with a_life(KIT) as made:
        yield made


async def test_507_is_a_reason_of_its_own_that_says_what_to_do_and_passes_with_its_cause(pod: Life) -> None:
    for name in ("first", "second"):
        pod.put_files(name, KIT.large(1.0, 700 << 20))
    await pod.operator.want(pod.intent("first"))
    await pod.loaded("first", seconds=60)
    await pod.operator.want(pod.intent("second"))
    await pod.failed("second", "ModelOutOfMemory")
    failure = pod.operator.slots["second"].failure
    assert failure is not None
    assert "insufficient memory" in failure.message
    assert "spec.model.memory" in failure.message
    assert failure.retry_at is not None
    await pod.operator.drop("first")
    await eventually(lambda: "first" not in pod.operator.slots, 60, pod.story)
    await pod.loaded("second", seconds=90)
