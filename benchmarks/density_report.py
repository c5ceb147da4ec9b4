"""The density benchmark's result as text: the aims first, then what each thing cost."""

from . import common

AIM_LOADING = 1.1  # times what bare servers take
AIM_P99 = 1.5  # times a single model's
KSERVE = "KServe (5,000 models, a server that answers at once): 860 s, 9.35 writes and 1.29 MB of etcd a model."


def text(result: common.Json) -> str:
    parts = [
        common.heading(f"{result['models']:,} models on {result['pods']} pods", result["context"]),
        _loading(result),
        _costs(result),
    ]
    if "attack" in result:
        parts.append(_attack(result["attack"], result["bare"].get("attacks", [])))
    if "restart" in result:
        parts.append(_restart(result["restart"], result["models"]))
    if "delete" in result:
        parts.append(_delete(result["delete"]))
    return "\n".join(parts)


def _loading(result: common.Json) -> str:
    bare, ours = result["bare"], result["apply"]
    one = ours["one_model_seconds"]
    rows = [
        (f"{result['pods']} bare MLServers, plain boto3 scripts, the same load calls", bare["seconds"], bare["sweep"]),
        ("Shoal, from the last object created until all Ready", ours["created_to_ready_seconds"], ours["sweep"]),
        ("Shoal, from the first object created", ours["first_created_to_ready_seconds"], None),
        ("of which kubectl create", ours["kubectl_seconds"], None),
    ]
    start = result.get("start")
    if start is not None:
        rows.append(
            ("Shoal, objects there, from the operator's start until all Ready", start["seconds"], start["sweep"])
        )
        rows.append(("of which until it was up", start["operator_up_seconds"], None))
    lines = ["## Loading\n\n| | seconds | to bare | all right |\n|---|---|---|---|\n"]
    for title, seconds, sweep in rows:
        right = "" if sweep is None else _right(sweep)
        lines.append(f"| {title} | {seconds:g} | {seconds / bare['seconds']:.2f} | {right} |\n")
    lines.append(
        f"\nAim: from the last object created at most {AIM_LOADING} times the bare servers. kubectl creates objects"
        " more slowly than they are loaded, so the operator's start with all objects there says more about loading. One"
        f" model, from its creation to Ready: p50 {one['p50']:g} s, p99 {one['p99']:g} s, most {one['max']:g} s.\n\n"
        "Every artifact is another linear regression that answers its own index; nothing was on any disk before. The"
        " bare servers have Shoal's repository plug-in: the stock one reads every model's settings at each load.\n"
    )
    about = ours.get("context")
    if about is not None and about["commit"] != result["context"]["commit"]:
        lines.append(
            f"\nApplied by kubectl at {about['date']}, commit {about['commit']}; the bare servers and the operator's"
            " start as said at the top.\n"
        )
    return "".join(lines)


def _costs(result: common.Json) -> str:
    bare, ours, models = result["bare"], result["apply"], result["models"]
    rows = [("model servers", bare["server_cpu_seconds"], ours["servers_and_agents"].get("kserve-container"))]
    rows.append(("boto3 scripts / agents", bare["loader_cpu_seconds"], ours["servers_and_agents"].get("shoal-agent")))
    storage = (bare.get("storage") or {}).get("cpu_seconds")
    rows.append(("S3 server", storage, ours["system"].get("versitygw")))
    rows += [(name, None, ours["system"].get(name)) for name in ("operator", "envoy")]
    rows += [(name, None, ours["programs"].get(name)) for name in ("kube-apiserver", "etcd")]
    lines = [
        "## What it cost\n\n| | bare: CPU s | Shoal: CPU s | ms a model | memory MiB | growth |\n",
        "|---" * 6 + "|\n",
    ]
    for name, alone, used in rows:
        if used is not None:
            lines.append(
                f"| {name} | {'' if alone is None else f'{alone:g}'} | {used['cpu_seconds']:g}"
                f" | {1e3 * used['cpu_seconds'] / models:.2f} | {used['memory_mib']:g}"
                f" | {used['memory_growth_mib']:g} |\n"
            )
    accounted = sum(used["cpu_seconds"] for _, _, used in rows if used is not None)
    accounted += ours.get("kubectl_and_client_cpu_seconds", 0.0)
    if "machine_cpu_seconds" in ours:
        lines.append(
            f"\nkubectl and this client took {ours['kubectl_and_client_cpu_seconds']:g} s of CPU. Everything else"
            f" (kubelet, containerd, other work) took {ours['machine_cpu_seconds'] - accounted:.0f} s of the"
            f" {ours['machine_cpu_seconds']:g} s that were used in {ours['cost_seconds']:g} s.\n"
        )
    etcd = ours["etcd_per_model"]
    lines.append(
        f"\nPer model: {ours['status_writes_per_model']:.3f} status writes by the operator,"
        f" {ours['writes_per_model']:.3f} writes in all with the user's own; etcd grew by"
        f" {etcd.get('database_in_use_bytes', 0) / 1e3:.2f} kB (with its history and indices), received"
        f" {etcd.get('received_bytes', 0) / 1e3:.2f} kB in {etcd.get('puts', 0):.2f} puts. {KSERVE}\n"
    )
    return "".join(lines)


def _attack(found: common.Json, bare: list[common.Json]) -> str:
    columns = ("mean", "p50", "p90", "p95", "p99", "max")
    lines = [
        "## Latency\n\n",
        "Vegeta through the gateway, over all models in turn and over one model alone on one pod, in turn"
        f" {found.get('attacks', 1)} times at each rate for {found['seconds']:g} s: the median of each quantile. Every"
        " answer was checked.\n\n"
        "| requests/s | | "
        + " | ".join(f"{name} ms" for name in columns)
        + " | failed or wrong | p99 to one model's |\n",
        "|---" * (len(columns) + 4) + "|\n",
    ]
    about = found.get("context")
    if about is not None:
        lines.insert(1, f"Measured at {about['date']}, commit {about['commit']}.\n\n")
    plain = {one["offered"]: one for one in bare}
    for row in found["rates"]:
        for way, title in (("many", "all models"), ("single", "one model")):
            one = row[way]
            ratio = f"{one['p99'] / row['single']['p99']:.2f}" if way == "many" else ""
            cells = " | ".join(f"{one[name]:.2f}" for name in columns)
            lines.append(f"| {row['rate']} | {title} | {cells} | {max(one['failed'], one['wrong'])} | {ratio} |\n")
        if row["rate"] in plain:
            one = plain[row["rate"]]
            cells = " | ".join(f"{one[name]:.2f}" for name in columns)
            lines.append(f"| {row['rate']} | all models, bare servers directly | {cells} | {one['failed']} | |\n")
    if plain:
        lines.append(
            "\n*Bare servers directly*: the same models on as many MLServers without agents, gateway and cluster, asked"
            " by the same vegeta: what so many model servers and models cost on these cores by themselves.\n"
        )
    lines.append(f"\nAim: p99 over all models at most {AIM_P99} times that of one.\n")
    return "".join(lines)


def _restart(found: common.Json, models: int) -> str:
    return (
        f"## The operator restarted among them\n\n{found['seconds']:g} s until the new one was ready (its pod's start"
        f" included); {found['status_writes']:g} status writes, {found['loads']:g} models loaded again,"
        f" {_right(found['sweep'])} of {models:,} right after.\n"
    )


def _delete(found: common.Json) -> str:
    operator = found["system"].get("operator", {})
    return (
        f"## All deleted at once\n\nThe last object was gone after {found['gone_seconds']:g} s, the last model unloaded"
        f" after {found['unloaded_seconds']:g} s; {operator.get('cpu_seconds', 0):g} s of the operator's CPU,"
        f" {found['status_writes_per_model']:g} status writes a model.\n"
    )


def _right(sweep: common.Json) -> str:
    return f"{sweep['right']:,}" + (f" ({sweep['wrong']:,} WRONG)" if sweep["wrong"] else "")
