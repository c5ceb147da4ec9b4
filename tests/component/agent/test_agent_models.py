"""From a desired list to predictions, with a real agent, S3 and MLServer."""

from .conftest import model
from .parts import HOST, Pod, intent

ROW = [[1.0, 2.0, 3.0, 4.0]]


async def test_sixty_models_answer_as_themselves_in_v2_and_v1(pod: Pod) -> None:
    names = [f"m{number}" for number in range(60)]
    for number, name in enumerate(names):
        pod.storage.put(f"{name}/model.joblib", model(float(number)))
    await pod.operator.want(*(intent(name) for name in names))
    await pod.loaded(*names)
    for number, name in enumerate(names):
        assert await pod.predict(name, ROW) == (200, [float(number)])
        status, answer = await pod.ask("POST", f"{pod.server.url}/v1/models/{name}:predict", {"instances": ROW})
        assert (status, answer) == (200, {"predictions": [float(number)]})
    # m1's folder holds m1's file only, not those of m10…m19.
    assert len(list((pod.models / "slots" / "m1").iterdir())) == 2
    status, metrics = await pod.ask("GET", f"http://{HOST}:{pod.agent_port}/metrics")
    assert 'shoal_agent_slots{phase="Loaded"} 60.0' in metrics
    assert 'shoal_agent_model_requests_total{result="succeeded"} 120.0' in metrics
