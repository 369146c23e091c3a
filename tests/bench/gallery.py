"""Start-up against a bare gr.Blocks; digits, a reconstruction, a picture and text through the server against the bare model call; peak memory of the server."""

import statistics
import tempfile
import textwrap
from pathlib import Path

from tests.bench import median, row, serving

HELLO = """
import gradio as gr
with gr.Blocks() as demo:
    gr.Markdown("hello")
demo.launch(server_port={port}, quiet=True)
"""


def first_page(command: list[str], port: int) -> float:
    """Seconds from starting `command` to the first answer on `port`."""
    with serving(command, port) as (_, seconds):
        return seconds


def start_up() -> None:
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(textwrap.dedent(HELLO.format(port=7981)))
        pairs = [(first_page(["app.py", "--port", "7980"], 7980), first_page([str(hello)], 7981)) for _ in range(3)]
    row("python app.py to the first page", statistics.median(a for a, _ in pairs), "a bare gr.Blocks hello-world", statistics.median(b for _, b in pairs))


def arrival() -> None:
    """What each visitor who opens the page costs everybody else who waits for the server."""
    from gradio.state_holder import SessionState

    from demos import page, sessions

    blocks = page.build()
    plain = median(lambda: SessionState(blocks))
    sessions.describe_once(blocks)
    row("a session for a visitor who arrives", median(lambda: SessionState(blocks)), "components described anew, as Gradio does", plain)


def through_the_server() -> None:
    from gradio_client import Client, handle_file
    from PIL import Image

    from demos.vae.make import test_digits
    from genkit import diffusion, gan, models, text, vae

    with serving(["app.py", "--port", "7990"], 7990) as (process, _):
        client = Client("http://127.0.0.1:7990", verbose=False, download_files=False)  # the answer, not 64 more requests for its files
        dcgan, conv, sd, gpt = (models.use(*key) for key in (("gan", "dcgan"), ("vae", "conv"), ("diffusion", "mini-sd"), ("text", "gpt-shakespeare")))
        with tempfile.TemporaryDirectory() as folder:
            digit = Path(folder) / "digit.png"
            list(test_digits().values())[3].save(digit)
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


def peak(pid: int) -> float:
    """Peak resident memory in MB (Linux)."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return float("nan")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1000


def run() -> None:
    start_up()
    arrival()
    through_the_server()
