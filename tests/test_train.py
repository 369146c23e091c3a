"""The command line that trains: progress, previews, an interruption, several processes, wrong names."""

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from genkit import core, gan, labels, train

SMALL = ["gan", "mlp", "--steps", "6", "--every", "2", "--batch-size", "8", "--device", "cpu", "--no-download"]
INTERRUPTED = """
import signal, sys
from genkit import core, train

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests may have had it ignored
keep = core.keep

def keep_then_interrupt(*arguments):
    keep(*arguments)
    signal.raise_signal(signal.SIGINT)  # Ctrl-C, at a moment that no machine is too fast for

core.keep = keep_then_interrupt
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def device_as_before(monkeypatch):
    monkeypatch.setattr(core, "_device", core._device)


def run(*command: str, threads: int = 1) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": str(threads)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120)


def options(tmp_path, name: str) -> list[str]:
    return ["--checkpoint", str(tmp_path / name), "--out", str(tmp_path / f"{name}-model")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder in which an unbroken training left its checkpoint, "whole", and its model, "whole-model"."""
    folder, before = tmp_path_factory.mktemp("whole"), core._device
    assert train.main(SMALL + options(folder, "whole")) == 0
    core._device = before
    return folder


def test_an_interrupted_training_goes_on_and_ends_like_an_unbroken_one(whole, tmp_path, capsys):
    broken = options(tmp_path, "broken")
    stopped = run(sys.executable, "-c", INTERRUPTED, *SMALL, *broken, threads=torch.get_num_threads())  # as many as the unbroken one had
    assert stopped.returncode == 130 and "the same command goes on from there" in stopped.stderr, stopped.stderr
    kept = core.kept(tmp_path / "broken")
    assert 2 <= kept < 6 and f"step {kept} is kept" in stopped.stderr
    assert not (tmp_path / "broken-model").exists()

    assert train.main(SMALL + broken) == 0
    shown = capsys.readouterr()
    assert "6 steps in" in shown.out and str(tmp_path / "broken-model") in shown.out
    assert "6/6" in shown.err and "loss_g" in shown.err  # the progress bar and its metrics
    one, other = (load_file(folder / "model.safetensors") for folder in (tmp_path / "broken-model", whole / "whole-model"))
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    assert len(next(gan.sample(gan.load(tmp_path / "broken-model"), "7", n=3))) == 3


def test_every_event_leaves_its_preview_and_its_metrics(whole):
    folder = whole / "whole"
    assert sorted(path.name for path in folder.glob("step-*.png")) == [f"step-{step:07d}.png" for step in (0, 2, 4, 6)]
    with Image.open(folder / "step-0000006.png") as sheet:
        assert sheet.width == 280 and labels.read(sheet)["model"] == "gan mlp"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [0, 2, 4, 6] and "loss_d" in log[-1]
    settings = json.loads((folder / "run.json").read_text())
    assert settings["variant"] == "mlp" and settings["seed"] == 0 and settings["seconds"] > 0


def test_going_on_with_other_settings_is_refused(whole, capsys):
    assert train.main([*SMALL, "--seed", "1", *options(whole, "whole")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "holds another run (seed 0)" in error and "another --checkpoint" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gna", "mlp"], "unknown family 'gna'; choose one of: gan, vae, diffusion, text, classifier"),
        (["gan", "dcgna"], "unknown gan variant 'dcgna'; choose one of: dcgan, unconditional, mlp, wgan-gp, style, student"),
        (["gan", "mlp", "--device", "tpu"], "unknown device 'tpu'; choose one of: auto, cpu, cuda, mps"),
        (["gan", "mlp", "--corpus", "tang"], "--corpus is for the text family only"),
    ],
)
def test_a_wrong_name_is_one_clear_line(arguments, said, capsys):
    assert train.main(arguments) == 2
    assert capsys.readouterr().err == said + "\n"


@pytest.mark.parametrize("arguments", [["gan", "mlp", "--steps", "0"], ["gan", "mlp", "--steps", "many"], ["gan"]])
def test_a_wrong_number_is_refused_before_anything_starts(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    assert ended.value.code == 2 and "error:" in capsys.readouterr().err


def test_it_runs_on_several_processes_under_accelerate_launch(tmp_path):
    """Two processes on the CPU, over gloo; each draws its own half of every batch, the first alone writes."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    done = run(*launch, "--dynamo_backend", "no", "-m", "genkit.train", *SMALL, *options(tmp_path, "run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 steps in") == 1
    assert sorted(path.name for path in (tmp_path / "run").glob("state-6/random_states_*")) == ["random_states_0.pkl", "random_states_1.pkl"]
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 4
    assert gan.load(tmp_path / "run-model") is not None
