"""Models are loaded once, shared, capped, freed, and fetched from a Hub: here a small server that speaks the Hub's protocol."""

import threading
from types import SimpleNamespace

import psutil
import pytest
import torch

from genkit import core, models
from genkit.classifier import Classifier, save
from genkit.core import Problem, Remote
from tests.runs.conftest import until

# --- loading, keeping, freeing


@pytest.fixture
def family(monkeypatch):
    """A family of ten variants whose load() the test can watch and hold up."""
    loads, gates = [], {}

    def load(source):
        loads.append(source)
        assert gates.get(source, threading.Event()).wait(10) if source in gates else True
        return SimpleNamespace(name=source)

    module = SimpleNamespace(VARIANTS={f"v{i}": None for i in range(10)}, PRETRAINED={"big": Remote("org/big", 10**9, "mit", memory=10**18)}, load=load)
    monkeypatch.setattr(models, "_module", lambda name: module)
    return SimpleNamespace(module=module, loads=loads, gates=gates)


def test_a_model_is_loaded_once_however_many_ask(family):
    family.gates["v0"] = threading.Event()
    got = []
    threads = [threading.Thread(target=lambda: got.append(models.use("x", "v0"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: family.loads)
    family.gates["v0"].set()
    for thread in threads:
        thread.join(10)
    assert family.loads == ["v0"] and len(got) == 8 and len({id(model) for model in got}) == 1


def test_different_models_do_not_wait_for_each_other(family):
    family.gates["v0"] = threading.Event()
    slow = threading.Thread(target=models.use, args=("x", "v0"))
    slow.start()
    until(lambda: family.loads)
    assert models.use("x", "v1").name == "v1"  # while v0 is still loading
    family.gates["v0"].set()
    slow.join(10)
    assert models.held() == [("x", "v1"), ("x", "v0")]


def test_the_least_recently_used_goes_first(family):
    models.configure(max_models=3)
    for name in ("v0", "v1", "v2", "v0", "v3"):
        models.use("x", name)
    assert models.held() == [("x", "v2"), ("x", "v0"), ("x", "v3")]
    models.use("x", "v1")
    assert family.loads == ["v0", "v1", "v2", "v3", "v1"]


def test_a_failed_load_is_tried_again(family):
    def broken(source):
        raise Problem("model.safetensors is missing", "缺少 model.safetensors")

    load, family.module.load = family.module.load, broken
    with pytest.raises(Problem, match="missing"):
        models.use("x", "v0")
    family.module.load = load
    assert models.use("x", "v0").name == "v0"


@pytest.mark.parametrize("name", ["dcgna", "../../etc", "someone/else", "", None, ["v0"], 7])
def test_the_catalogue_is_closed(family, name):
    with pytest.raises(Problem, match="choose one of: v0, v1"):
        models.use("x", name)
    with pytest.raises(Problem):
        next(models.fetch("x", name))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), OSError(12, "x")]
)
def test_out_of_memory_puts_the_models_down_and_the_next_request_works(family, error):
    models.use("x", "v0")
    with pytest.raises(Problem, match="out of memory") as told, models.guarded():
        raise error
    assert "内存不足" in told.value.zh and models.held() == []
    assert models.use("x", "v0").name == "v0"


def test_a_real_allocation_that_cannot_be_had_is_told_and_freed():
    seen = []

    @models.guarded()
    def greedy():
        seen.append(torch.ones(1000))
        torch.empty(2**60, dtype=torch.uint8)

    with pytest.raises(Problem, match="smaller model"):
        greedy()
    assert models.guarded()(lambda: 5)() == 5


def test_a_generator_that_runs_out_of_memory_is_told_and_closed():
    closed = []

    def steps():
        try:
            yield 1
            torch.empty(2**60, dtype=torch.uint8)
        finally:
            closed.append(True)

    guarded = models.guard(steps())
    assert next(guarded) == 1 and not closed
    with pytest.raises(Problem, match="out of memory"):
        next(guarded)
    assert closed
    left = models.guard(steps())
    next(left)
    left.close()
    assert closed == [True, True] and list(models.guard(iter([None, 2]))) == [None, 2]


def test_other_errors_pass_through_the_guard_and_keep_the_models(family):
    models.use("x", "v0")
    with pytest.raises(RuntimeError, match="shapes"), models.guarded():
        raise RuntimeError("shapes do not match")
    with pytest.raises(Problem, match="mine"), models.guarded():
        raise Problem("mine", "我的")
    assert models.held() == [("x", "v0")]


def test_a_model_that_needs_more_memory_than_there_is_is_refused_before_its_download(family):
    with pytest.raises(Problem, match=r"needs about 1000000000\.0 GB of memory"):
        next(models.fetch("x", "big"))


def test_models_give_way_to_one_that_needs_their_memory(family, monkeypatch):
    free = iter([100, 100, 5 * 10**8, 2 * 10**9, 2 * 10**9])
    family.module.PRETRAINED["mid"] = Remote("org/mid", 10**9, "mit")
    monkeypatch.setattr(models, "_folder", lambda family, name: name)
    for name in ("v0", "v1", "v2"):
        models.use("x", name)
    monkeypatch.setattr(models, "_free_memory", lambda: next(free))
    assert models.use("x", "mid").name == "mid"
    assert models.held() == [("x", "mid")]


def test_twenty_loads_and_drops_leave_no_memory_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(core, "WEIGHTS", tmp_path)
    save(core.build(lambda: Classifier([16, 64, 512], 1200), 0), tmp_path / "classifier" / "digits")
    size = (tmp_path / "classifier" / "digits" / "model.safetensors").stat().st_size
    assert size > 20e6
    resident = []
    for _ in range(20):
        with torch.inference_mode():
            models.use("classifier", "digits")(torch.zeros(1, 1, 28, 28))
        models.free()
        resident.append(psutil.Process().memory_info().rss)
    assert resident[-1] - resident[4] < 3 * size  # fifteen loads later; a leak would be fifteen sizes
