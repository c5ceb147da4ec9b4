"""The report of all servers, and how what one run measured joins what others did. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from benchmarks import common
from benchmarks.common import Json, spread

from .verdicts import RULE, Expects, Verdict, agreed, verdict
from .ways import BARE, SHOAL

TITLES: Final[Mapping[str, str]] = {
    "mlserver": "MLServer",
    "openvino": "OpenVINO on MLServer",
    "triton": "Triton, Python backend",
    "mms": "multi-model-server",
    "djl": "DJL Serving, Python engine",
    "torchserve": "TorchServe, real PyTorch",
}


class Row(NamedTuple):
    """A claim tried on a server."""

    claim: str
    server: str
    compared: str
    figures: str
    verdict: Verdict


def merged(before: Json | None, server: str, part: str, found: Json) -> Json:
    """``found`` in place of what was there of this part; the context of the whole is the newest one's."""
    servers = dict((before or {}).get("servers", {}))
    servers[server] = {**servers.get(server, {}), part: found}
    return {"context": found["context"], "servers": {name: servers[name] for name in TITLES if name in servers}}


def text(result: Json) -> str:
    servers = result["servers"]
    loads, requests, claims = (
        {name: parts[part] for name, parts in servers.items() if part in parts}
        for part in ("loads", "requests", "claims")
    )
    return (
        common.heading("Every model server beside its bare self", result["context"])
        + "The line above is the last run's; each server's own is at the end. Both sides are the same installation,"
        " started alike, in the same run, in changing order; figures are medians (least - most) of the rounds, ratios"
        " are Shoal's over the bare server's within a round. Processes on loopback: the real server and agent, the"
        " operator's real gateway with a real Envoy; where a model goes is a script's word"
        " ([why](../benchmarks/field/__init__.py)). Each model is one network of three layers of 1,024 units."
        + _crowded(found["context"]["machine"] for parts in servers.values() for found in parts.values())
        + "\n\n"
        + _loads(loads)
        + _requests(requests)
        + _claims(claims)
        + _contexts(servers)
    )


def _crowded(machines: Iterable[Json]) -> str:
    """What has to be said where others used the machine."""
    seen = [(each["load_before"][0], each["cores"]) for each in machines]
    crowded = [load for load, cores in seen if load > cores]
    if not crowded:
        return ""
    return (
        f" **Others used the machine** in {len(crowded)} of {len(seen)} runs: a load average of up to"
        f" {max(crowded):.3g} on {seen[0][1]} cores before they began. Absolute figures are a crowded machine's;"
        " ratios and verdicts go by rounds, and say so where these disagree."
    )


def _loads(measured: Mapping[str, Json]) -> str:
    rows = []
    for name, found in measured.items():
        ours, bare = found[SHOAL], found[BARE]
        rows.append(
            [
                TITLES[name],
                str(found["models"]),
                *(_figure(side["loads_per_second"]) for side in (bare, ours)),
                _figure(found["ratio"]),
                *(_figure(side["asked_to_answer_ms"]) for side in (bare, ours)),
                *(_figure(side["first_request_ms"]) for side in (bare, ours)),
                *(_figure(side["mib_per_model"]) for side in (bare, ours)),
                f"{found['agent_mib']:.3g}",
            ]
        )
    columns = [
        "server",
        "models",
        "loads/s, bare",
        "loads/s, Shoal",
        "ratio",
        "one model, asked to first answer, ms, bare",
        "Shoal",
        "of which the first request, ms, bare",
        "Shoal",
        "MiB a model, bare",
        "Shoal",
        "the agent, MiB",
    ]
    note = (
        "A load is pulled from S3, laid out and loaded; the bare server's by a plain script that posts the server's own"
        " load call. MiB: proportional set size of the server and all its workers, over the models that were loaded."
        "\n\n"
    )
    return "## Loads\n\n" + note + _table(columns, rows) + _missing(measured)


def _requests(measured: Mapping[str, Json]) -> str:
    rows = []
    for name, found in measured.items():
        for each in found["settings"]:
            full, steady = each["full"]["rate"], each["steady"]
            rows.append(
                [
                    TITLES[name],
                    each["setting"],
                    *(_figure(full[side]) for side in (BARE, SHOAL)),
                    _figure(full["ratio"]),
                    str(each["rate"]),
                    *(_figure(steady["p50"][side]) for side in (BARE, SHOAL)),
                    _figure(steady["p50"]["ratio"]),
                    *(_figure(steady["p99"][side]) for side in (BARE, SHOAL)),
                    _figure(steady["p99"]["ratio"]),
                    *(_figure(each["cpu_ms"][part]) for part in (BARE, SHOAL, "envoy")),
                    f"{each['failed'][BARE]} / {each['failed'][SHOAL]}",
                ]
            )
    columns = [
        "server",
        "setting",
        "requests/s, bare",
        "by the gateway",
        "ratio",
        "steady rate",
        "p50 ms, bare",
        "gateway",
        "ratio",
        "p99 ms, bare",
        "gateway",
        "ratio",
        "CPU ms a request, bare server",
        "Shoal's server",
        "Envoy",
        "failed, bare / gateway",
    ]
    note = (
        "Requests/s: as fast as 16 connections take. Latencies: at a steady rate, half of what the bare server"
        " answered at most before. Client and Envoy have no cores of their own, so a full server is asked less often"
        " by what they use. Processor time a request: while it is asked as fast as it answers; unlike the rest, it"
        " hardly depends on what else the machine does; that of a worker which ended meanwhile is missing in it.\n\n"
    )
    return "## Requests\n\n" + note + _table(columns, rows) + _missing(measured)


def _claims(claims: Mapping[str, Json]) -> str:
    rows = sorted(
        (row for name, found in claims.items() for row in claim_rows(TITLES[name], found)), key=lambda row: row.claim
    )
    cells = [[row.claim, row.server, row.compared, row.figures, f"**{row.verdict.value}**"] for row in rows]
    return (
        "## What the documents claim\n\n"
        f"Each server asked itself, its models loaded by the agent with `spec.serving` as said. {RULE}\n\n"
        + _table(["claim", "server", "compared", "figures", "verdict"], cells)
        + _missing(claims)
    )


def _missing(measured: Mapping[str, Json]) -> str:
    names = [title for name, title in TITLES.items() if name not in measured]
    return f"Not measured yet: {'; '.join(names)}.\n\n" if names else ""


def claim_rows(server: str, found: Json) -> Iterator[Row]:
    """Each claim that was tried on a server, with its verdict."""
    for each in found["compared"]:
        first, second = each["first"], each["second"]
        yield Row(
            each["claim"],
            server,
            f"{first['setting']} → {second['setting']}",
            f"{each['figure']}: {_figure(first)} → {_figure(second)}; ratio {_figure(spread(each['ratios']))}",
            verdict(Expects(each["expects"]), each["ratios"]),
        )
    if found.get("flood"):
        yield from _flood_rows(server, found["flood"])
    if found.get("scaling"):
        yield _scaling_row(server, found["scaling"])


def _flood_rows(server: str, flood: Json) -> Iterator[Row]:
    short, long = flood["short"], flood["long"]
    compared = f"{short['setting']} → {long['setting']}"
    refused = [each["codes"].get("503", 0) / sum(each["codes"].values()) for each in short["rounds"]]
    only = [each["codes"].keys() <= {"200", "503"} and "503" in each["codes"] for each in short["rounds"]]
    others = sum((_others(each["codes"]) for each in short["rounds"]), start=0)
    yield Row(
        "a full queue refuses with 503",
        server,
        short["setting"],
        f"share refused with 503: {_figure(spread(refused))}; neither 200 nor 503: {others}",
        agreed(only),
    )
    grown = [[max(each["grown_mib"], 0.1) for each in side["rounds"]] for side in (short, long)]
    ratios = [b / a for a, b in zip(*grown, strict=True)]
    waits = [[each["max_ms"] for each in side["rounds"]] for side in (short, long)]
    lost = sum(_others(each["codes"]) for each in long["rounds"])
    yield Row(
        "a short queue keeps memory from growing",
        server,
        compared,
        f"MiB grown: {_figure(spread(grown[0]))} → {_figure(spread(grown[1]))}; longest answer ms:"
        f" {_figure(spread(waits[0]))} → {_figure(spread(waits[1]))}; neither 200 nor 503 with the long one: {lost}",
        verdict(Expects.UP, ratios),
    )


def _others(codes: Mapping[str, int]) -> int:
    return sum(count for code, count in codes.items() if code not in ("200", "503"))


def _scaling_row(server: str, scaling: Json) -> Row:
    (few, low), (many, high) = scaling["workers"]
    shown = [a == 1 and b > 1 for a, b in zip(low, high, strict=True)]
    return Row(
        "DJL adds workers when the queue passes twice the batch",
        server,
        f"{few} callers → {many} callers, {scaling['setting']}",
        f"most workers in each round: {_list(low)} → {_list(high)}",
        agreed(shown),
    )


def _contexts(servers: Mapping[str, Json]) -> str:
    rows = [
        [TITLES[name], f"`{about['command']}`", about["date"], about["commit"], str(about["machine"]["load_before"][0])]
        for name, parts in servers.items()
        for about in (found["context"] for found in parts.values())
    ]
    return "## Runs\n\n" + _table(["server", "command", "date", "commit", "load average before"], rows)


def _figure(value: Mapping[str, Any]) -> str:
    return f"{value['median']:.4g} ({value['min']:.4g} - {value['max']:.4g})"


def _list(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _table(columns: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
    return "\n".join(lines) + "\n\n"
