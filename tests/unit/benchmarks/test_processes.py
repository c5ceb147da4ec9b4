"""Memory and processor time of a family of processes."""

import os
import subprocess
import sys
import time

from benchmarks.field import processes

BUSY = (
    "import subprocess, sys; "
    "subprocess.run([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)'])"
)


def test_children_and_theirs_count() -> None:
    parent = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        parent.stdout.readline()
        child = next(each for each in processes.family(parent.pid) if each != parent.pid)
        before = processes.used_seconds(parent.pid)
        assert before.keys() == {parent.pid, child}
        assert processes.memory(parent.pid) > processes.memory(child) > 1
        assert processes.resident(parent.pid) >= processes.memory(parent.pid)
        os.kill(child, 9)
        parent.wait(60)
        assert processes.spent(parent.pid, before) >= 0, "what ended takes nothing back"
    finally:
        parent.kill()


def test_time_spent_since() -> None:
    before = processes.used_seconds(os.getpid())
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert processes.spent(os.getpid(), before) >= 0.04
