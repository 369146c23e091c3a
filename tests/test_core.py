"""What every family shares: problems in two languages, private randomness, kept states, pictures."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from genkit import core, images
from genkit.core import Problem


def test_a_problem_speaks_both_languages():
    problem = Problem("unknown {what} '{name}'", "未知的{what}“{name}”", what=("colour", "颜色"), name="<b>")
    assert str(problem) == problem.en == "unknown colour '<b>'"
    assert problem.zh == "未知的颜色“<b>”"


def test_pick_lists_the_valid_names():
    assert core.pick({"a": 1, "b": 2}, "b", "letter", "字母") == 2
    assert core.pick(("a", "b"), "b", "letter", "字母") == "b"
    for wrong in ("c", None, 3, ["a"], "x" * 1000):
        with pytest.raises(Problem, match="unknown letter .{0,70}; choose one of: a, b") as told:
            core.pick({"a": 1, "b": 2}, wrong, "letter", "字母")
        assert "可选：a, b" in told.value.zh


@pytest.mark.parametrize(("given", "kept"), [(5, 5), ("7", 7), (1e9, 10), (-3, 1), (3.9, 3), (float("inf"), 10), ("1e30", 10)])
def test_numbers_are_moved_into_their_range(given, kept):
    result = core.number(given, 1, 10, "n", whole=True)
    assert result == kept and isinstance(result, int)


@pytest.mark.parametrize("given", ["abc", "", None, True, float("nan"), "nan", [1], 10**400])
def test_what_is_no_number_is_a_problem(given):
    with pytest.raises(Problem, match="n must be a number"):
        core.number(given, 1, 10, "n")


def test_one_seed_is_torchs_own_stream_and_parts_are_streams_of_their_own():
    assert torch.equal(torch.rand(5, generator=core.seeded(7)), torch.rand(5, generator=torch.Generator().manual_seed(7)))
    first = [torch.rand(1, generator=core.seeded(*parts)).item() for parts in ((7,), (7, 0), (7, 1), (0, 7), (7, 0, 1), ("7", 0))]
    assert len(set(first)) == len(first)
    assert first[1] == torch.rand(1, generator=core.seeded(7, 0)).item()
    core.seeded(-1), core.seeded(2**80)  # any int is a seed


def test_building_a_network_takes_its_weights_from_the_seed_and_leaves_the_global_stream_alone():
    before = torch.random.get_rng_state()
    one, two, other = (core.build(lambda: torch.nn.Linear(3, 3), seed).weight for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_absent_device_is_a_problem():
    for name in ("cuda", "mps"):
        if not (torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()):
            with pytest.raises(Problem, match=f"this machine has no {name} device"):
                core.set_device(name)
    with pytest.raises(Problem, match="unknown device 'tpu'; choose one of: auto, cpu, cuda, mps"):
        core.set_device("tpu")


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr(core, "_device", "cpu")


def test_a_kept_state_is_resumed_at_its_step(on_cpu, tmp_path):
    def prepared():
        acc = core.accelerator()
        model = core.build(lambda: torch.nn.Linear(2, 1), 0)
        return acc, *acc.prepare(model, torch.optim.AdamW(model.parameters(), 0.1))

    def steps(acc, model, optimizer, begin, end):
        for step in range(begin, end):
            acc.backward(model(torch.rand(4, 2, generator=core.seeded(0, step))).square().mean())
            optimizer.step()
            optimizer.zero_grad()
        return model.weight.detach().clone()

    whole = steps(*prepared(), 0, 6)
    run = prepared()
    assert core.resume(run[0], tmp_path) == core.kept(tmp_path) == 0
    steps(*run, 0, 2)
    core.keep(run[0], tmp_path, 2)
    steps(*run, 2, 4)
    core.keep(run[0], tmp_path, 4)
    again = prepared()
    assert core.resume(again[0], tmp_path) == core.kept(tmp_path) == 4
    assert torch.equal(steps(*again, 4, 6), whole)
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-4"]


def test_a_state_half_written_is_not_resumed(on_cpu, tmp_path):
    acc = core.accelerator()
    model = acc.prepare(torch.nn.Linear(2, 1))
    core.keep(acc, tmp_path, 3)
    (tmp_path / "state-6").mkdir()  # the process died while it wrote step 6
    (tmp_path / "state-6" / "model.safetensors").write_bytes(b"half")
    assert core.resume(acc, tmp_path) == 3
    assert model is not None


def test_without_a_checkpoint_nothing_is_written(on_cpu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    acc = core.accelerator()
    core.keep(acc, None, 5)
    assert core.resume(acc, None) == core.kept(None) == 0 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pictures_survive_the_border_to_tensors_and_back(mode):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (5, 7) if mode == "L" else (5, 7, 3), dtype=np.uint8)) for _ in range(3)]
    x = images.from_pil(pictures, mode)
    assert x.shape == (3, 1 if mode == "L" else 3, 5, 7) and x.min() >= -1 and x.max() <= 1
    assert [picture.tobytes() for picture in images.to_pil(x)] == [picture.tobytes() for picture in pictures]
    assert images.to_pil(x * 100)[0].getextrema() is not None  # clipped, not wrapped around
    assert images.to_pil(torch.tensor([[[[-5.0, 5.0]]]]))[0].tobytes() == b"\x00\xff"


def test_the_shared_modules_are_light():
    """The page is up before torch is imported."""
    code = (
        "import sys; import genkit.core, genkit.runs, genkit.models, genkit.labels, genkit.together, genkit.train;"
        "print(sorted({'torch', 'transformers', 'diffusers', 'accelerate', 'gradio', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip() == "[]"


def test_modules_that_come_late_are_imported_one_at_a_time(tmp_path, monkeypatch):
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "__init__.py").write_text("busy = []")
    for name in "ab":
        (tmp_path / "late" / f"{name}.py").write_text(f"import late, time\nlate.busy.append(1)\ntime.sleep(0.2)\n{name} = len(late.busy)\nlate.busy.pop()")
    monkeypatch.syspath_prepend(tmp_path)
    bring = core.lazily("late", {"a": "a", "b": "b"})
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(bring, "abab")) == [1, 1, 1, 1]
    with pytest.raises(AttributeError, match="'late' has no attribute 'c'"):
        bring("c")
