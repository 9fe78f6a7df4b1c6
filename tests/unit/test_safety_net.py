"""What a test has started ends with the run, in whatever way that ends, and whichever thread has started it."""

import subprocess
import sys
from pathlib import Path

import psutil

from tests.support.waiting import until_sync

ROOT = Path(__file__).parents[2]
RUN = """
import subprocess, sys, threading, time
from pathlib import Path
from tests.support.reaper import SafetyNet

net = SafetyNet(Path(sys.argv[1]))

def start():
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    net.watch(process.pid)
    print(process.pid, flush=True)

thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(600)
"""


def test_what_runs_ends_when_the_run_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        started = psutil.Process(int(run.stdout.readline()))
        assert started.is_running()
        run.kill()

    def ended() -> bool:
        return not started.is_running() or started.status() == psutil.STATUS_ZOMBIE

    until_sync(ended)
