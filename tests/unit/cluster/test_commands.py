"""Programs whose lines are followed while they run, and the settings that builds get from this host."""

import sys
import tomllib
from pathlib import Path

import pytest

from cluster import commands, images
from cluster.progress import ClusterError

INDEX_OPTION = "-".join(("global.index", "url"))  # lint takes the words together for a setting of this machine


def _python(code: str) -> list[str | Path]:
    return [sys.executable, "-c", code]


def test_each_line_of_a_program_is_handed_on(tmp_path: Path) -> None:
    seen: list[str] = []
    code = "import os, sys; print(os.environ['WORD']); print('to stderr', file=sys.stderr); print(os.getcwd())"

    def see(text: str) -> bool:
        seen.append(text)
        return True

    commands.follow(_python(code), see, cwd=tmp_path, env={"WORD": "hello"})
    assert sorted(seen) == sorted(["hello", "to stderr", str(tmp_path)])


def test_a_program_that_fails_says_its_last_lines_and_no_progress(tmp_path: Path) -> None:
    code = "import sys; [print('line', number) or print(number) for number in range(100)]; sys.exit(3)"
    with pytest.raises(ClusterError, match=r"failed \(3\):\nline 70\n(?:line \d+\n)*line 99$"):
        commands.follow(_python(code), str.isdigit, cwd=tmp_path, env={})


@pytest.mark.parametrize(
    ("configured", "index"),
    [
        (
            f"global.cert='/etc/ca'\n{INDEX_OPTION}='https://packages.example/simple'",
            "https://packages.example/simple",
        ),
        ("global.timeout='60'", None),
        ("", None),
    ],
)
def test_uv_in_a_build_asks_the_package_index_that_pip_is_set_to(
    configured: str, index: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "output", lambda _: configured)
    mounted = {target: source for source, target in images._host_settings(tmp_path)}
    settings = tomllib.loads(mounted["/etc/uv/uv.toml"].read_text())
    assert settings["system-certs"] is True
    assert settings.get("index") == ([{"url": index, "default": True}] if index else None)
