"""What is left fits one line of a terminal; without a terminal there is a line for each change and no other."""

import pytest

from cluster import progress
from cluster.progress import ClusterError, Step, line, say, step, waiting


def test_the_line_says_what_runs_how_far_it_is_and_what_waits() -> None:
    running = [Step("Go programs", 10.0, "7 of 90 packages"), Step("image agent", 25.0)]
    assert line(running, ["start", "import agent"], 30.4, 200) == (
        "4 left: Go programs (7 of 90 packages, 20 s) · image agent (5 s) · then start, import agent"
    )


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_the_line_never_wraps(columns: int) -> None:
    text = line([Step("image docker.io/seldonio/mlserver:1.7.1", 0.0)] * 3, ["start"] * 9, 500.0, columns)
    assert len(text) < columns
    assert text.endswith("…")


def test_without_a_terminal_a_step_is_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DISPLAY", progress._Display(terminal=False))
    waiting(["start", "import"])
    with step("image agent") as detail:
        detail("half")
        say("between")
    printed = [text.partition("] ")[2] for text in capsys.readouterr().out.splitlines()]
    assert printed == ["image agent …", "between", "image agent: done in 0.0 s (2 left)"]


def test_a_step_that_fails_is_said_to_have_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DISPLAY", progress._Display(terminal=False))
    with pytest.raises(ClusterError), step("image agent"):
        raise ClusterError("no network")
    assert "image agent: failed after 0.0 s" in capsys.readouterr().out


def test_on_a_terminal_one_line_is_renewed_and_what_ended_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    display = progress._Display(terminal=True)
    monkeypatch.setattr(progress, "_DISPLAY", display)
    monkeypatch.setattr(display, "renewer", object())  # no thread of its own: the test says when
    with step("image agent"):
        display.renew()
        say("between")
    printed = capsys.readouterr().out
    assert printed.count("1 left: image agent (0 s)") == 2
    kept = [text.rpartition("\x1b[K")[2].partition("] ")[2] for text in printed.split("\n")[:-1]]
    assert kept == ["between", "image agent: done in 0.0 s"]
