"""The command line: every flag in --help with its default, a taken port, what cannot be done said in one line."""

import os
import socket
import subprocess
import sys
import urllib.request

import gradio as gr
import pytest
from gradio import networking

import app
from genkit import models
from genkit.core import Problem

from .conftest import ROOT, wait_for

FLAGS = [
    "--host",
    "--port",
    "--share",
    "--auth",
    "--device",
    "--lang",
    "--max-models",
    "--allow-model",
    "--text-endpoint",
    "--text-model",
    "--image-endpoint",
    "--image-model",
]


def test_help_names_every_flag_and_its_default():
    told = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(flag in told for flag in FLAGS)
    assert told.count("(default:") == len(FLAGS) and "(default: 7860)" in told


def test_a_taken_port_gives_the_next_free_one_and_says_so(tmp_path):
    with socket.socket() as taken, (tmp_path / "log").open("w") as out:
        taken.bind(("127.0.0.1", 7890))
        taken.listen()
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen([sys.executable, "app.py", "--port", "7890"], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            assert 7890 < int(wait_for(tmp_path / "log", process).rsplit(":", 1)[1]) < 7990
        finally:
            process.terminate()
            process.wait(20)


def test_a_machine_too_busy_to_answer_within_three_seconds_starts_all_the_same(monkeypatch):
    monkeypatch.setattr(networking, "url_ok", lambda url: False)  # what Gradio finds there
    monkeypatch.setattr(app.page, "warm_up_in_background", lambda: None)
    with gr.Blocks() as small:
        gr.HTML("here I am")
    try:
        _, address, _ = app.launch(small, app.arguments(["--port", "7897"]), quiet=True)
        assert b"here I am" in urllib.request.urlopen(address, timeout=30).read()
    finally:
        small.close()


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--auth", "teacher"], "USER:PASSWORD"),
        (["--device", "cuda"], "no cuda device"),
        (["--allow-model", "music=org/name"], "unknown family"),
        (["--text-model", "tiny"], "text endpoint"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(flags, sentence):
    import torch

    if flags == ["--device", "cuda"] and torch.cuda.is_available():
        flags, sentence = ["--device", "mps"], "no mps device"
    with pytest.raises(Problem, match=sentence):
        app.configured(app.arguments(flags))


def test_the_host_can_add_a_model_to_the_closed_catalogue():
    assert "org/name" not in models.catalogue("text")
    app.configured(app.arguments(["--allow-model", "org/name"]))
    assert models.catalogue("text")["org/name"].repo == "org/name"


def test_a_password_keeps_strangers_out(tmp_path):
    from gradio_client import Client

    with (tmp_path / "log").open("w") as out:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", "7894", "--auth", "teacher:chalk"], cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            address = wait_for(tmp_path / "log", process)
            with pytest.raises(Exception, match="[Aa]uth|401|login"):
                Client(address, verbose=False)
            assert Client(address, auth=("teacher", "chalk"), verbose=False)
        finally:
            process.terminate()
            process.wait(20)
