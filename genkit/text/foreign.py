"""A language model that a visitor brings, taken in with distrust: of config.json only numbers count, of tokenizer.json only characters.

The network and the tokenizer are built by our own code from those, and the weights must fit them exactly. Nothing that was handed over is run,
and neither transformers nor tokenizers ever reads it.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from genkit import core, keep
from genkit.core import Problem, pick
from genkit.text import Config
from genkit.text.model import UNKNOWN, network, table_of
from genkit.text.rung import Rung

TOKENIZER = "tokenizer.json"
NEEDED = (keep.CONFIG, keep.WEIGHTS, TOKENIZER)
FILES = {**keep.FILES, TOKENIZER: 2 << 20, "tokenizer_config.json": 1 << 16, "generation_config.json": 1 << 16}  # the last two are not looked at
VOCABULARY = 20_000  # tokens, at most
KINDS = {  # model_type -> our name for it, and what its config may say: field -> (our name for it, its values)
    "llama": ("gpt", {"hidden_size": ("n_embd", range(8, 513)), "num_hidden_layers": ("n_layer", range(1, 13)), "num_attention_heads": ("n_head", range(1, 17))}),
    "genkit-lstm": ("lstm", {"hidden_size": ("n_embd", range(8, 1025)), "num_hidden_layers": ("n_layer", range(1, 5))}),
    "genkit-hmm": ("hmm", {"n_states": ("n_states", range(1, 513))}),
    "genkit-ngram": ("ngram", {"order": ("order", range(1, 9))}),
}  # fmt: skip
LENGTH, COUNTED = range(8, 1025), range(2, 5_000_001)  # tokens of context; tokens that an n-gram has counted
# settings that change what the weights mean: where config.json has them, they must be as ours are
MEANING = (
    "hidden_act", "intermediate_size", "head_dim", "num_key_value_heads", "rms_norm_eps", "rope_parameters", "rope_theta", "rope_scaling", "attention_bias", "mlp_bias", "tie_word_embeddings", "vocab_size",
)  # fmt: skip


class TextForm(keep.Form):
    """What a language model may look like."""

    def assembled(self, folder: Path):
        settings, tokenizer = keep.json_of(folder / keep.CONFIG), table(folder / TOKENIZER)
        config, counted = recipe(settings, tokenizer)

        def make():
            model = network(config, tokenizer)
            if counted:
                model.config.n_tokens, model.corpus = counted, model.corpus.new_zeros(counted)
            return model

        blueprint = keep.drawn(make)
        tied = {"lm_head.weight"} if config.arch in ("gpt", "lstm") else set()
        keep.check_weights(folder / keep.WEIGHTS, {name: (shape, kinds(dtype)) for name, (shape, dtype) in blueprint.items() if name not in tied})
        model = core.build(make, 0)
        same_meaning(settings, model.config.to_dict())
        model.load_state_dict(load_file(folder / keep.WEIGHTS), strict=False)  # what is tied comes with what it is tied to
        if isinstance(model, Rung):
            try:
                model.check()
            except ValueError:
                raise keep.foreign("") from None
        return model.eval()


def form() -> TextForm:
    return TextForm(network, {}, FILES, NEEDED)


def kinds(dtype: str) -> tuple[str, ...]:
    """Numbers with a fraction may come in half precision."""
    return ("F16", "F32") if dtype == "float32" else (keep.KINDS[dtype],)


def table(file: Path):
    """Our tokenizer of the characters in a tokenizer.json. Raises Problem where it is not a plain table of characters."""
    found = keep.json_of(file)
    model = found.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    plain = isinstance(vocab, dict) and not model.get("merges") and not found.get("normalizer") and not found.get("pre_tokenizer")
    if not plain or len(vocab) > VOCABULARY or any(type(number) is not int for number in vocab.values()):
        raise _no_table()
    tokens = sorted(vocab, key=vocab.get)
    characters = tokens[1:]
    if [vocab[token] for token in tokens] != list(range(len(tokens))) or not characters or tokens[0] != UNKNOWN:
        raise _no_table()
    if any(len(character) != 1 or "\ud800" <= character <= "\udfff" for character in characters):
        raise _no_table()
    return table_of(characters)


def _no_table() -> Problem:
    return Problem(
        "tokenizer.json is not a table of at most {n} single characters; this gallery takes back the models that it packs",
        "tokenizer.json 不是由至多 {n} 个单个字符组成的表；本画廊只收回它自己打包的模型",
        n=f"{VOCABULARY:,}",
    )


def recipe(settings: dict, tokenizer) -> tuple[Config, int]:
    """Our Config of what config.json says, and how many tokens an n-gram has counted. Raises Problem for what is unknown or out of bounds."""
    kind = settings.get("model_type")
    arch, named = pick(KINDS, kind, "model_type in config.json", "config.json 中的 model_type")
    fields = {name: values for name, (_, values) in named.items()} | {"max_position_embeddings": LENGTH}
    if arch == "ngram":
        fields["n_tokens"] = COUNTED
    for name in fields:
        if name not in settings:
            raise Problem("config.json lacks a setting ({error})", "config.json 缺少设置（{error}）", error=name)
    keep.within({name: settings[name] for name in fields}, fields)
    end, size = settings.get("eos_token_id"), len(tokenizer)
    if end is not None and (type(end) is not int or not 0 < end < size):
        raise Problem("config.json says eos_token_id = {value}, beyond its vocabulary", "config.json 里的 eos_token_id = {value} 超出词表", value=str(end)[:40])
    ours = {our: settings[name] for name, (our, _) in named.items()}
    if arch == "gpt" and ours["n_embd"] % (2 * ours["n_head"]):
        raise Problem(
            "config.json describes no network: {n} heads need a width of a multiple of {m}",
            "config.json 描述的不是一个网络：{n} 个头需要宽度是 {m} 的倍数",
            n=ours["n_head"],
            m=2 * ours["n_head"],  # rotary positions turn pairs
        )
    end = tokenizer.convert_ids_to_tokens(end) if end is not None else ""
    return Config("", arch, context_length=settings["max_position_embeddings"], vocab_size=size, end=end, **ours), settings.get(
        "n_tokens", 0
    ) if arch == "ngram" else 0


def same_meaning(theirs: dict, ours: dict) -> None:
    """That the settings which change what the weights mean are those of our own networks."""
    for name in MEANING:
        if name in theirs and name in ours and theirs[name] != ours[name]:
            keep.within({name: theirs[name]}, {name: (ours[name],)})
