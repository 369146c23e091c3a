"""Models of characters in transformers' own format. `gpt` is a small Llama (rotary positions, RMS norms, gated MLPs) with tied embeddings.

Vaswani et al. 2017: https://arxiv.org/abs/1706.03762. Su et al. 2021 (rotary positions): https://arxiv.org/abs/2104.09864. Shazeer 2020 (gates): https://arxiv.org/abs/2002.05202.
A model is a transformers model with its tokenizer as `model.tokenizer`. B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from genkit import core, folders
from genkit.core import Problem
from genkit.text import VARIANTS, Config, fast
from genkit.text.hmm import Hmm, HmmConfig
from genkit.text.lstm import Lstm, LstmConfig
from genkit.text.ngram import Ngram, NgramConfig
from genkit.text.rung import Rung

UNKNOWN = "<unk>"
disable_progress_bar()  # the page and the command line have their own


def character_tokenizer(text: str, vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each of the most frequent characters of `text`; every other character becomes <unk>."""
    counts = Counter(text)
    return table_of(sorted(sorted(counts, key=lambda c: (-counts[c], c))[: vocab_size - 1]))


def table_of(characters: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of these characters, whose tokens count from 1; 0 is <unk>."""
    # a byte-pair encoding that knows no pair is a table of characters
    table = Tokenizer(models.BPE({token: i for i, token in enumerate([UNKNOWN, *characters])}, [], unk_token=UNKNOWN))
    table.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=table, unk_token=UNKNOWN, clean_up_tokenization_spaces=False)


def network(config: Config, tokenizer: PreTrainedTokenizerFast):
    """An untrained network for the tokens of `tokenizer`."""
    newline, end = (tokenizer.get_vocab().get(c) for c in ("\n", config.end))
    ends = {"bos_token_id": newline, "eos_token_id": end}
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": config.context_length, "dtype": torch.float32}
    model = NETWORKS[config.arch](config, **ends, **sizes)
    model.generation_config = GenerationConfig(**ends, pad_token_id=newline, suppress_tokens=[tokenizer.unk_token_id])
    model.tokenizer = tokenizer
    return model


def _gpt(config: Config, **options) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=config.n_embd,
            intermediate_size=config.n_embd * 8 // 96 * 32,  # 8/3: the gate is a third matrix, so as many parameters as two of 4 n_embd (Shazeer 2020)
            num_hidden_layers=config.n_layer,
            num_attention_heads=config.n_head,
            tie_word_embeddings=True,
            pad_token_id=None,
            **options,
        )
    )


NETWORKS = {
    "gpt": _gpt,
    "ngram": lambda config, **options: Ngram(NgramConfig(order=config.order, **options)),
    "hmm": lambda config, **options: Hmm(HmmConfig(n_states=config.n_states, **options)),
    "lstm": lambda config, **options: Lstm(LstmConfig(hidden_size=config.n_embd, num_hidden_layers=config.n_layer, **options)),
}


def save(model, path: Path | str) -> None:
    """Write a transformers folder that `pipeline("text-generation", path)` opens. Raises Problem for a full disk; no half folder stays behind.

    Numbers with a fraction are stored in half precision, half the bytes, but config.json says float32: that is what it is opened as, everywhere.
    """
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    with folders.written(path) as folder:
        model.tokenizer.save_pretrained(folder)
        model.generation_config.save_pretrained(folder)
        model.config.architectures = [type(model).__name__]  # servers look it up
        model.config.save_pretrained(folder)
        weights = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
            for name, tensor in model.state_dict().items()
            if name not in tied
        }
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load(source: Path | str):
    """A transformers causal language model in eval mode on core.device(), with its tokenizer as `.tokenizer`.

    source: a name in VARIANTS, a transformers folder, or a folder with one .gguf file. Raises Problem that names a missing or damaged file.
    """
    folder = core.WEIGHTS / "text" / source if isinstance(source, str) and source in VARIANTS else Path(source)
    gguf = next(iter(sorted(folder.glob("*.gguf"))), None)
    options = {"gguf_file": gguf.name} if gguf else {}
    if not gguf:
        folders.config(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
        with core.loading:
            model, report = AutoModelForCausalLM.from_pretrained(
                folder, dtype=_dtype(), local_files_only=True, use_safetensors=True, output_loading_info=True, **_spread(folder), **options
            )
        if report["missing_keys"]:
            raise ValueError(f"no {min(report['missing_keys'])}")
        if isinstance(model, Rung):
            model.check()
    except Exception as error:  # transformers, tokenizers, safetensors and gguf each have their own
        if isinstance(error, MemoryError) or "memory" in str(error):  # too little of it: genkit.models knows what to do
            raise
        raise _unreadable(folder, gguf, error) from None
    model.tokenizer = tokenizer
    model = (model if getattr(model, "hf_device_map", None) else model.to(core.device())).eval()
    fast.quicken(model)
    return model


def _spread(folder: Path) -> dict:
    """Options of from_pretrained for a model that the GPU cannot hold with half of its free memory left: accelerate lays it over all GPUs, then the CPU."""
    if core.device().type != "cuda" or 2 * sum(file.stat().st_size for file in folder.glob("*.safetensors")) < torch.cuda.mem_get_info()[0]:
        return {}
    return {"device_map": "auto"}


def _unreadable(folder: Path, gguf: Path | None, error: Exception) -> Problem:
    """What is wrong with a folder that does not load, by the file that is to blame."""
    remedy = folders.REMEDY if folder.is_relative_to(core.WEIGHTS) else ("delete the folder and download it again", "请删除该文件夹并重新下载")
    weights = gguf or next(iter(sorted(folder.glob("*.safetensors"))), folder / "model.safetensors")
    for file in (folder / "tokenizer.json", weights):
        if not gguf and not file.exists():
            return Problem("{file} is missing; {remedy}", "缺少 {file}；{remedy}", file=file, remedy=remedy)
    file = folder / "tokenizer.json" if not gguf and not _is_json(folder / "tokenizer.json") else weights
    first = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return Problem("{file} is damaged ({error}); {remedy}", "{file} 已损坏（{error}）；{remedy}", file=file, error=first, remedy=remedy)


def _is_json(file: Path) -> bool:
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")))
    except ValueError:
        return False


def _dtype() -> torch.dtype:
    """Half precision where the hardware has it; a CPU multiplies float32 up to 60 times faster than bfloat16."""
    device = core.device().type
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.float16 if device == "mps" else torch.float32
