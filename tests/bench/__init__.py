"""python -m tests.bench: what the gallery costs, each figure as a ratio against a baseline measured in the same run. Benchmarks, not tests.

`python -m tests.bench page` runs the part about the page in a browser alone, `... gan` that about the GAN tab, `... vae` that about the VAE tab, `... text` that about the text tab.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@contextlib.contextmanager
def serving(command: list[str], port: int):
    """`python command`, from its first answer on `port` to the end of the block; yields (process, seconds until that answer)."""
    begun = time.perf_counter()
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).read()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}") from None
                time.sleep(0.02)
        yield process, time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()


def median(function, repeats: int = 7) -> float:
    """Median seconds of a call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        function()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def processor_time(pid: int) -> float:
    """Seconds that a process has had a processor for, all its threads together (Linux)."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return float("nan")
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at(times: list[float], percent: int) -> float:
    """The percentile of these times that was reached, not one in between."""
    return sorted(times)[min(len(times) * percent // 100, len(times) - 1)]


def row(what: str, seconds: float, baseline: str, against: float) -> None:
    print(f"{what:<44} {seconds * 1000:8.0f} ms   {baseline:<36} {against * 1000:8.0f} ms   ratio {seconds / against:5.2f}", flush=True)
