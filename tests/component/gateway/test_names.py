"""Whatever is no model's name never reaches a pod or the activator, gets a clear answer, and harms no other request."""

import asyncio
import random
import string

import grpc
import pytest
from shoal_api.grammar import MODEL_NAME
from shoal_operator.state.world.effects import Unavailable

from .world import Envoy, World, eventually

pytestmark = pytest.mark.component

HOST = "iris.default"
CALL = "/inference.GRPCInferenceService/ModelInfer"
CLEAN = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}
NASTY = [
    *(
        "hot/",
        "hot/x",
        "hot/\n",
        "hot/\r\nx: y",
        "hot\n",
        "\nhot",
        "hot\0",
        "hot\x7f",
        "hot\t",
        "hot ",
        " hot",
        "hot//",
    ),
    *(
        "HOT",
        "hot_",
        "hot.",
        "-hot",
        "hot-",
        "hot,cold",
        "hot:predict",
        "hot?x",
        "hot#",
        "hot%2f",
        "h\xf6t",
        "a.b",
        "../hot",
    ),
    *("cold/", "cold/\nx", "cold\0", "cold,hot", "!", "?", "~", ".", "..", "*", "%s", "(", "[a-z]", "\U0001f600"),
    *("x" * 254, "hot/" + "x" * 20_000, "cold/" + "x" * 80_000, "u" * 3_000_000),
]


def made_up(count: int) -> list[str]:
    """Names that begin, end or go on like those of models, with something in them that no name has."""
    rng = random.Random(8)
    letters = string.printable + "\xe4\u2028\u00ad\x01\x1b"
    found: list[str] = []
    while len(found) < count:
        parts = [rng.choice(("hot", "cold", "a", "")), "".join(rng.choices(letters, k=rng.randint(1, 6)))]
        rng.shuffle(parts)
        name = "".join(parts)
        if name and not MODEL_NAME.matches(name):
            found.append(name)
    return found


def message(name: bytes) -> bytes:
    """ModelInferRequest with only ``model_name``, which need not be text."""
    length, size = len(name), bytearray()
    while length >= 128:
        size.append(length & 127 | 128)
        length >>= 7
    size.append(length)
    return b"\x0a" + bytes(size) + name


def channel(envoy: Envoy) -> grpc.aio.Channel:
    options = [("grpc.default_authority", HOST), ("grpc.max_metadata_size", 1 << 20)]
    return grpc.aio.insecure_channel(envoy.address, options=options)


async def outcome(
    open_channel: grpc.aio.Channel, name: str | bytes, metadata: tuple[tuple[str, str], ...] = ()
) -> grpc.StatusCode:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = open_channel.unary_unary(CALL)
    try:
        await call(message(name.encode() if isinstance(name, str) else name), timeout=60, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_names_in_messages_and_headers_of_grpc(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod)
    world.route("hot", pod)
    await world.applied(world.route("cold", unavailable=Unavailable.COLD))
    async with channel(envoy) as shared:
        # Somebody else's requests are held all the while, by the connections that the hostile ones come by.
        held = [asyncio.create_task(outcome(shared, "cold")) for _ in range(4)]

        async def waiting() -> bool:
            return world.metric("shoal_cold_requests_held") == 4

        await eventually(waiting, 5, "the innocent requests are not held")
        for name in [*NASTY, *made_up(60), b"\xff\xfe", b"hot\xff"]:
            assert await outcome(shared, name) in CLEAN, repr(name[:40])
        for name in [*NASTY, *made_up(60)]:
            if name.isascii() and name.isprintable() and name == name.strip() and len(name) < 1000:
                said = await outcome(shared, "", (("mm-model-id", name),))
                assert said in CLEAN, repr(name)
        await outcome(shared, "hot", (("mm-model-id", "hot"), ("mm-model-id", "x/y")))
        assert pod.headers["mm-model-id"] == "hot"
        assert await outcome(shared, "hot") is grpc.StatusCode.OK
        assert not any(task.done() for task in held), "a held request was ended by another client's name"
        world.route("cold", pod)
        assert set(await asyncio.gather(*held)) == {grpc.StatusCode.OK}
    assert set(pod.requests) == {"grpc ModelInfer hot", "grpc ModelInfer cold"}
    assert set(world.asked) == {"cold"}


async def test_names_in_paths(world: World, envoy: Envoy) -> None:
    pod = await world.pod("a")
    world.service(pod)
    world.route("hot", pod)
    await world.applied(world.route("cold", unavailable=Unavailable.COLD))
    for name in [*NASTY, *made_up(60)]:
        if (
            len(name) > 50_000
            or any(byte <= 32 or byte >= 127 for byte in name.encode())
            or name in (".", "..", "../hot")
            or "//" in name
        ):
            continue  # no request line, or another path once it is normalised
        if name.split("/")[0].split("?")[0].split("#")[0].split(":")[0] in ("hot", "cold") and name[3:4] != ":":
            continue  # another path of these models, or a query
        for path in (f"/v2/models/{name}/infer", f"/default/iris/v2/models/{name}"):
            status, body = await raw(envoy, path)
            assert status in (400, 404, 431), (path[:80], status, body)
    assert (await raw(envoy, "/v2/models/hot/infer"))[0] == 200
    assert pod.requests == ["POST /v2/models/hot/infer"]
    assert world.asked == []


async def test_the_answer_says_what_a_name_is_and_does_not_repeat_what_is_none(world: World, envoy: Envoy) -> None:
    await world.applied(world.service(await world.pod("a")))
    async with channel(envoy) as shared:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = shared.unary_unary(CALL)
        with pytest.raises(grpc.aio.AioRpcError, match="not a model's name, which is of lower-case letters") as caught:
            await call(message(b"Iris_" * 1000))
    assert len(caught.value.details() or "") < 600
    status, body = await raw(envoy, "/v2/models/Iris/infer")
    assert status == 404
    assert "not a model's name" in body
    status, body = await raw(envoy, "/" + "x" * 30_000)
    assert (status, len(body) < 1500) == (404, True)


async def raw(envoy: Envoy, path: str) -> tuple[int, str]:
    """POST exactly this path, and the answer, which has to be one: a closed connection raises."""
    reader, writer = await asyncio.open_connection(envoy.options.host, envoy.options.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode())
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length: ")[2].split()[0])
        body = (await reader.readexactly(length)).decode()
    writer.close()
    return int(head.split()[1]), body
