"""The Go programs: names, versions and keys that two places must agree on."""

import re
import shutil
from pathlib import Path

import pytest

from cluster import binaries, components, image_list
from cluster.binaries import Tool
from cluster.layout import CHECKOUT

TOOLS = CHECKOUT / "cluster" / "tools"
NODES_TOOLS = CHECKOUT / "cluster" / "nodes" / "tools"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of tools/ that a test may change, and an empty cache."""
    copy = tmp_path / "tools"
    shutil.copytree(TOOLS, copy)
    monkeypatch.setattr(binaries, "_TOOLS", copy)
    monkeypatch.setattr(binaries, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(binaries, "_toolchain", lambda: "go1.26 amd64")
    return copy


def test_kubernetes_program_answers_to_every_name_that_it_is_linked_under() -> None:
    source = (TOOLS / "kubernetes" / "main.go").read_text()
    assert set(re.findall(r'^\t"([a-z-]+)": ', source, re.MULTILINE)) == set(binaries.KUBERNETES.programs)


def test_every_program_is_kept_under_each_of_its_names(tools: Path, tmp_path: Path) -> None:
    program = tmp_path / "kubernetes"
    program.write_text("program")
    (tmp_path / "cache" / "bin").mkdir(parents=True)
    binaries._keep(binaries.KUBERNETES, program)
    folder = binaries._folder(binaries.KUBERNETES)
    assert {name: (folder / name).read_text() for name in binaries.KUBERNETES.programs} == dict.fromkeys(
        binaries.KUBERNETES.programs, "program"
    )
    assert binaries._complete(binaries.KUBERNETES)


def test_a_program_that_goes_by_its_own_name_is_a_file(tools: Path, tmp_path: Path) -> None:
    """versitygw's folder is the context of an image, and a link would lead out of it."""
    program = tmp_path / "versitygw"
    program.write_text("program")
    (tmp_path / "cache" / "bin").mkdir(parents=True)
    binaries._keep(binaries.VERSITYGW, program)
    assert [(path.name, path.is_symlink()) for path in binaries._folder(binaries.VERSITYGW).iterdir()] == [
        ("versitygw", False)
    ]


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ("go.mod", {"kubernetes", "etcd", "helm"}),
        ("go.sum", {"kubernetes", "etcd", "helm"}),
        ("kubernetes/main.go", {"kubernetes"}),
        ("etcd/main.go", {"etcd"}),
    ],
)
def test_what_decides_a_program_decides_its_key(tools: Path, changed: str, stale: set[str]) -> None:
    some = (binaries.KUBERNETES, binaries.ETCD, binaries.HELM)
    before = {tool.name: binaries._key(tool) for tool in some}
    file = tools / changed
    file.write_text(file.read_text() + "\n// changed\n")
    assert {tool.name for tool in some if binaries._key(tool) != before[tool.name]} == stale


def test_kubernetes_says_the_version_that_go_mod_pins() -> None:
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (TOOLS / "go.mod").read_text())
    assert found is not None
    assert f"-X k8s.io/component-base/version.gitVersion={found[1]}" in binaries._linker_flags()


def test_every_staging_module_has_the_version_of_kubernetes() -> None:
    text = (TOOLS / "go.mod").read_text()
    minor = re.search(r"k8s\.io/kubernetes v1\.(\S+)", text)
    assert minor is not None
    replaced = re.findall(r"^\t(\S+) => (\S+) (\S+)$", text, re.MULTILINE)
    assert replaced
    assert {(name == target, version) for name, target, version in replaced} == {(True, f"v0.{minor[1]}")}


def test_programs_of_several_nodes_keep_the_versions_of_the_others_and_decide_no_other_program() -> None:
    """Only then the compiler's cache serves both; and who has one node must not compile anything again for them."""
    listed = re.compile(r"^\t(\S+) (v\S+?)(?: // indirect)?$", re.MULTILINE)
    texts = [(folder / "go.mod").read_text().partition("\nexclude")[0] for folder in (TOOLS, NODES_TOOLS)]
    theirs, ours = (dict(listed.findall(text)) for text in texts)
    assert {name: version for name, version in ours.items() if theirs.get(name, version) != version} == {}
    assert {tool.module() for tool in binaries.FOR_SEVERAL_NODES} == {NODES_TOOLS}
    assert {tool.module() for tool in (*binaries.FOR_THE_CLUSTER, *binaries.FOR_THE_USER)} == {TOOLS}


def test_every_tool_is_a_package_of_ours_or_pinned_in_go_mod() -> None:
    text = (TOOLS / "go.mod").read_text()
    for tool in (*binaries.FOR_THE_CLUSTER, *binaries.FOR_THE_USER, *binaries.FOR_SEVERAL_NODES):
        source: Path | None = Tool.source(tool)
        assert source.is_dir() if source else f"\t{tool.package}\n" in text


def test_coredns_has_the_plugins_of_its_configuration_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "CONFIG", tmp_path)
    monkeypatch.setattr(components.certificates, "write_kubeconfig", lambda path, _: path.write_text(""))
    components.coredns(tmp_path)
    named = set(re.findall(r"^  ([a-z]+)\b", (tmp_path / "Corefile").read_text(), re.MULTILINE))
    source = (TOOLS / "coredns" / "main.go").read_text()
    assert set(re.findall(r'coredns/plugin/([a-z]+)"', source)) == named
    directives = re.search(r"Directives = \[\]string\{(.*)\}", source)
    assert directives is not None
    assert set(re.findall(r'"([a-z]+)"', directives[1])) == named


def test_uv_has_one_version_everywhere() -> None:
    script = re.search(r"^version=(\S+)$", (CHECKOUT / "cluster" / "uv.sh").read_text(), re.MULTILINE)
    assert script is not None
    said = {image_list.UV.tag().rpartition(":")[2]}
    for image in image_list.BY_NAME.values():
        said |= set(re.findall(r"astral-sh/uv:(\S+)", image.dockerfile.read_text()))
    assert said == {script[1]}
