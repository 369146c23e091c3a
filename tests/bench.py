"""python -m tests.bench: what the gallery costs, each figure as a ratio against a baseline measured in the same run.

Start-up against a bare gr.Blocks; digits, a reconstruction, a picture and text through the server against the bare model call;
built-in and pretrained text generation against transformers.generate; peak memory of the server. A benchmark, not a test.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HELLO = """
import gradio as gr
with gr.Blocks() as demo:
    gr.Markdown("hello")
demo.launch(server_port={port}, quiet=True)
"""


def first_page(command: list[str], port: int) -> float:
    """Seconds from starting `command` to the first answer on `port`."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"})
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                return time.perf_counter() - begun
            except OSError:
                time.sleep(0.02)
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


def row(what: str, seconds: float, baseline: str, against: float) -> None:
    print(f"{what:<44} {seconds * 1000:8.0f} ms   {baseline:<36} {against * 1000:8.0f} ms   ratio {seconds / against:5.2f}", flush=True)


def start_up() -> None:
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(textwrap.dedent(HELLO.format(port=7981)))
        pairs = [(first_page([sys.executable, "app.py", "--port", "7980"], 7980), first_page([sys.executable, str(hello)], 7981)) for _ in range(3)]
    row("python app.py to the first page", statistics.median(a for a, _ in pairs), "a bare gr.Blocks hello-world", statistics.median(b for _, b in pairs))


def through_the_server() -> None:
    from gradio_client import Client, handle_file
    from PIL import Image

    from demos import pad
    from demos import vae as tab
    from genkit import diffusion, gan, models, text, vae

    process = subprocess.Popen([sys.executable, "app.py", "--port", "7990"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                client = Client("http://127.0.0.1:7990", verbose=False, download_files=False)  # the answer, not 64 more requests for its files
                break
            except Exception:
                time.sleep(0.5)
        dcgan, conv, sd, gpt = (models.use(*key) for key in (("gan", "dcgan"), ("vae", "conv"), ("diffusion", "mini-sd"), ("text", "gpt-shakespeare")))
        with tempfile.TemporaryDirectory() as folder:
            digit = Path(folder) / "digit.png"
            pad.picture(tab.test_digits()[3]).save(digit)
            opened = vae.digit_from(Image.open(digit))
            prompt = "a red apple on a blue background"
            cases = [
                ("64 digits", lambda: client.predict("dcgan", "0123456789", 64, 1, api_name="/gan_sample"), lambda: list(gan.sample(dcgan, n=64, seed=1))),
                ("one reconstruction", lambda: client.predict(handle_file(digit), "conv", api_name="/vae_reconstruct"), lambda: vae.reconstruct(conv, opened)),
                (
                    "one 20-step picture",
                    lambda: client.predict(prompt, "", 20, 4.0, 1, "mini-sd", api_name="/diffusion_sample"),
                    lambda: list(diffusion.sample(sd, prompt, num_inference_steps=20, guidance_scale=4.0, seed=1)),
                ),
                (
                    "100 tokens, gpt-shakespeare",
                    lambda: client.predict("ROMEO:", "gpt-shakespeare", 100, 0.8, 0, 1.0, 1, api_name="/text_sample"),
                    lambda: list(text.sample(gpt, "ROMEO:", max_new_tokens=100, seed=1)),
                ),
            ]
            for what, served, bare in cases:
                row(f"{what}, through the server", median(served), "the bare model call", median(bare))
        print(f"peak memory of the server: {peak(process.pid):.0f} MB")
    finally:
        process.kill()
        process.wait()


def peak(pid: int) -> float:
    """Peak resident memory in MB (Linux)."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return float("nan")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1000


def generation() -> None:
    """Our decode loop against transformers' own generate, greedy, the same tokens."""
    import torch

    from genkit import models, text

    names = ["gpt-shakespeare"] + (["smollm2"] if models.is_here("text", "smollm2") else [])
    for name in names:
        loaded = models.use("text", name)
        prompt = "ROMEO:" if name == "gpt-shakespeare" else "Write a short poem about autumn."
        ids, _ = text.fit(loaded, prompt)
        network = getattr(loaded, "network", loaded)
        inputs = torch.as_tensor(ids).reshape(1, -1)

        def theirs(network=network, inputs=inputs):
            network.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=100, min_new_tokens=100, do_sample=False)

        ours = median(lambda loaded=loaded, prompt=prompt: list(text.sample(loaded, prompt, max_new_tokens=100, temperature=0)), 3)
        row(f"100 tokens, {name}", ours, "transformers.generate", median(theirs, 3))
    if "smollm2" not in names:
        print("smollm2 is not on this machine; `python -m genkit.models fetch smollm2` brings it")


if __name__ == "__main__":
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    start_up()
    through_the_server()
    generation()
