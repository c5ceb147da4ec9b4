"""Plots of results, as small SVG files that are the same for the same figures."""

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot

from . import common

mpl.use("svg")
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "shoal", "font.size": 9, "axes.spines.top": False})
mpl.rcParams.update(
    {"axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "figure.constrained_layout.use": True}
)

SIZE: Final = (6.4, 3.2)
_OURS, _OTHER = "#0b6e99", "#c9762b"

Drawn = list[tuple[str, Path]]


def density(result: common.Json, folder: Path) -> Drawn:
    """Latency over the rate, and where the CPU of loading went."""
    drawn = [_cpu(result, folder)]
    if "attack" in result:
        drawn.append(_latency(result, folder))
    return drawn


def _latency(result: common.Json, folder: Path) -> tuple[str, Path]:
    figure, axes = pyplot.subplots(figsize=SIZE)
    rates = [str(row["rate"]) for row in result["attack"]["rates"]]
    for way, colour, name in (("many", _OURS, f"{result['models']:,} models"), ("single", _OTHER, "one model")):
        for quantile, style in (("p50", "--"), ("p99", "-")):
            values = [row[way][quantile] for row in result["attack"]["rates"]]
            axes.plot(rates, values, style, color=colour, marker="o", markersize=3, label=f"{name}, {quantile}")
    axes.set(xlabel="requests per second", ylabel="milliseconds", yscale="log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend(frameon=False, ncols=2)
    return _save(figure, folder / "density-latency.svg", "Latency over all models and over one")


def _cpu(result: common.Json, folder: Path) -> tuple[str, Path]:
    bare, ours, models = result["bare"], result["apply"], result["models"]
    used = ours["servers_and_agents"] | ours["system"] | ours["programs"]
    parts = {
        "model servers": (bare["server_cpu_seconds"], used["kserve-container"]["cpu_seconds"]),
        "scripts / agents": (bare["loader_cpu_seconds"], used["shoal-agent"]["cpu_seconds"]),
        "S3 server": (
            bare.get("storage", {}).get("cpu_seconds", 0.0),
            used.get("versitygw", {}).get("cpu_seconds", 0.0),
        ),
        "operator": (0.0, used["operator"]["cpu_seconds"]),
        "API server, etcd": (0.0, used["kube-apiserver"]["cpu_seconds"] + used["etcd"]["cpu_seconds"]),
        "Envoys": (0.0, used["envoy"]["cpu_seconds"]),
    }
    figure, axes = pyplot.subplots(figsize=(SIZE[0], 2.0))
    left = [0.0, 0.0]
    for name, seconds in parts.items():
        widths = [1e3 * value / models for value in seconds]
        axes.barh(["bare servers", "Shoal"], widths, left=left, label=name, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set(xlabel="ms of CPU per model, from its creation to Ready")
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return _save(figure, folder / "density-cpu.svg", "CPU per model")


def overcommit(result: common.Json, folder: Path) -> Drawn:
    """A cold request beside the raw pull and load; hit rates beside an ideal cache."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=SIZE)
    names = ("p50", "p90", "p99")
    _pairs(left, names, [result["cold"]["cold_ms"][q] for q in names], [result["cold"]["raw_ms"][q] for q in names])
    left.set(ylabel="milliseconds", title="a cold request")
    left.legend(["through the gateway", "raw pull and load"], frameon=False)
    kinds = ("zipf", "uniform")
    rates = [[result[kind][key] for kind in kinds] for key in ("hit_rate", "ideal_lru_hit_rate")]
    _pairs(right, kinds, *rates)
    right.set(ylim=(0, 1), title="share of requests without a load")
    right.legend(["Shoal", "ideal LRU"], frameon=False)
    return [_save(figure, folder / "overcommit.svg", "Cold requests and hit rates")]


def traffic(result: common.Json, folder: Path) -> Drawn:
    """Requests per second by shape, with the least and most of the rounds."""
    figure, axes = pyplot.subplots(figsize=SIZE)
    rows = result["full"]
    names = list(rows)
    medians = [rows[name]["requests_per_second"]["median"] for name in names]
    low = [rows[name]["requests_per_second"]["min"] for name in names]
    high = [rows[name]["requests_per_second"]["max"] for name in names]
    errors = [[m - v for m, v in zip(medians, low, strict=True)], [v - m for m, v in zip(medians, high, strict=True)]]
    colours = [_OTHER if "plain" in name else _OURS for name in names]
    axes.barh(names, medians, xerr=errors, color=colours, height=0.6, capsize=3)
    axes.set(xlabel="requests per second, 16 connections")
    return [_save(figure, folder / "traffic.svg", "Requests per second by the traffic's shape")]


def _pairs(axes: Any, names: tuple[str, ...], ours: list[float], other: list[float]) -> None:
    places = range(len(names))
    axes.bar([place - 0.2 for place in places], ours, 0.4, color=_OURS)
    axes.bar([place + 0.2 for place in places], other, 0.4, color=_OTHER)
    axes.set_xticks(list(places), names)


def _save(figure: Any, file: Path, title: str) -> tuple[str, Path]:
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return title, file
