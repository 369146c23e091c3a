"""A model in 8 bits, by ONNX Runtime: its matrices a second time, in a quarter of the bytes, and one call for all layers.

On a CPU a token costs the time to read every weight once, and the way from one small operation to the next: two thirds and one third of SmolLM2-135M in float32.
Why this runtime: 32 numbers share a scale, of the weights and of what meets them, which leaves the perplexity within half a percent of float32's
(`python -m tests.bench text`); with one scale for all numbers of a token, as torch's dynamic 8 bits have it, a simulation lost 2 to 4.5 %.
The float32 matrices stay for who looks inside (attention maps, gradients, saving).

Operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Dettmers et al. 2022 (8 bits): https://arxiv.org/abs/2208.07339.
B texts, S tokens of each, C tokens of room, D numbers a head.
"""

from __future__ import annotations

import threading
import weakref

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from genkit.text import fast

BLOCK = 32  # numbers that share a scale
LIMIT = 700_000_000  # parameters: they pass through a protobuf, which ends at 2 GB and is copied on its way
LONG = 1024  # tokens: longer texts are not computed side by side, for each would take as much room as the longest
CALLS = 16  # kept, each with the places of the memory that it reads and writes
ROPES = ("default", "linear", "llama3", "yarn")  # rotary positions that are the same for short and long texts


class Eight:
    """The matrices of a model in 8 bits, and the readers who are computed side by side."""

    @torch.inference_mode()
    def __init__(self, model):
        config = model.config
        if model.num_parameters() > LIMIT or config.hidden_act != "silu" or config.rope_parameters.get("rope_type", "default") not in ROPES:
            raise ValueError(f"{type(model).__name__} of this size or kind is not computed in 8 bits")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait let others compute
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(Graph(model).bytes(), options, providers=["CPUExecutionProvider"])
        self.side, self.turn, self.calls = SideBySide(config), threading.Lock(), {}

    def __deepcopy__(self, memo):
        return None  # a copy of the model is computed with its own matrices

    def forward(self, model, texts, every):
        weight, together = model.model.embed_tokens.weight, [i for i, (ids, cache) in enumerate(texts) if len(ids) == 1 and cache.length < LONG]
        made: list = [None] * len(texts)
        with self.turn:
            if len(together) > 1:
                logits = self._together(weight, [(texts[i][0][0], texts[i][1]) for i in together])
                for i, row in zip(together, logits, strict=True):
                    made[i] = row[None]
            for i, (ids, cache) in enumerate(texts):
                if made[i] is None:
                    made[i] = self._alone(weight, ids, cache, every)
        return torch.cat(made)

    def _alone(self, weight, ids: list[int], cache: fast.Cache, every: bool) -> torch.Tensor:
        """Logits (1 or S, V) of one text, in the memory of its own cache."""
        end = cache.length + len(ids)
        self.side.bring_back(cache)
        cache.reserve(end)
        wanted = range(len(ids)) if every else [len(ids) - 1]
        logits = self._run(weight[torch.tensor([ids])], [end - 1], end, wanted, [tensor[:, None] for tensor in cache.layers])
        cache.length = end
        _places(cache).own = end
        return logits[0]

    def _together(self, weight, texts: list[tuple[int, fast.Cache]]) -> torch.Tensor:
        """Logits (B, V) of texts with one new token each. Rows of others who have a place, but no turn, are computed too: it costs nothing, and is forgotten."""
        rows = self.side.seat([cache for _, cache in texts])
        count = self.side.count()
        ids, read = [0] * count, [0] * count
        for row, cache in enumerate(self.side.rows[:count]):
            if (cache := cache and cache()) is not None:
                read[row] = min(_places(cache).beside, cache.length, self.side.room - 1)
        for row, (token, _) in zip(rows, texts, strict=True):
            ids[row] = token
        layers = [tensor[:, :count] for tensor in self.side.layers]
        logits = self._run(weight[torch.tensor(ids)][:, None], read, max(read) + 1, [0], layers)[rows, 0]
        for _, cache in texts:
            cache.length += 1
            _places(cache).beside = cache.length
        return logits

    def _run(self, h: torch.Tensor, last: list[int], total: int, wanted, layers: list[torch.Tensor]) -> torch.Tensor:
        """Logits (B, len(wanted), V). h (B, S, n_embd); last: of each text the place of its last token; layers: keys and values, (2, B, H, C, D), which get the new ones."""
        given = {"h": h.contiguous().numpy(), "last": np.array(last, np.int32), "total": np.array([total], np.int32), "wanted": np.array(wanted, np.int64)}
        call = self._bound(layers)
        for name, value in given.items():
            call.bind_cpu_input(name, value)
        call.bind_output("logits", "cpu")
        self.session.run_with_iobinding(call)
        return torch.from_numpy(call.get_outputs()[-1].numpy())

    def _bound(self, layers: list[torch.Tensor]):
        """A call whose keys and values are in this memory. The latest few are kept: naming it all takes as long as two layers."""
        place = (tuple(tensor.data_ptr() for tensor in layers), layers[0].shape, layers[0].stride())
        call = self.calls.pop(place, None)
        if call is None:
            call = self.session.io_binding()
            for i, tensor in enumerate(layers):
                for name, half in zip("kv", tensor, strict=True):
                    call.bind_input(f"{name}{i}", "cpu", 0, np.float32, list(half.shape), half.data_ptr())
                    call.bind_output(f"{name}{i}_out", "cpu", 0, np.float32, list(half.shape), half.data_ptr())
        self.calls[place] = call
        if len(self.calls) > CALLS:
            del self.calls[next(iter(self.calls))]
        return call


class Places:
    """How much of a text is in the memory of its own cache, and how much in its row beside others."""

    def __init__(self):
        self.own, self.beside, self.row = 0, 0, None

    def crop(self, length: int) -> None:
        self.own, self.beside = min(self.own, length), min(self.beside, length)


def _places(cache: fast.Cache) -> Places:
    if cache.places is None:
        cache.places = Places()
    return cache.places


class SideBySide:
    """Memory in which the texts that are computed together lie side by side: (2, rows, H, C, D) a layer. Only what changed moves between it and the texts' own caches."""

    def __init__(self, config):
        self.shape, self.room, self.rows = (config.num_key_value_heads, fast.head_size(config)), 0, []
        self.layers = [torch.empty(2, 0, self.shape[0], 0, self.shape[1]) for _ in range(config.num_hidden_layers)]

    def count(self) -> int:
        """Rows up to the last one that is taken."""
        return max((row + 1 for row, cache in enumerate(self.rows) if cache is not None and cache() is not None), default=0)

    def seat(self, caches: list[fast.Cache]) -> list[int]:
        """The row of each of these texts, with all that was read of it in place."""
        idle = [cache for known in self.rows if known is not None and (cache := known()) is not None and not any(cache is other for other in caches)]
        if len(idle) > len(caches) // 2:
            for cache in idle:
                self.free(cache)
            for cache in caches:
                if _places(cache).row is not None and _places(cache).row >= len(caches):
                    self.free(cache)
        self.grow(max(cache.length for cache in caches) + 1, len(caches) + len(idle))
        for cache in caches:
            places = _places(cache)
            if places.row is None:
                places.row = next(row for row, known in enumerate(self.rows) if known is None or known() is None)
                self.rows[places.row], places.beside = weakref.ref(cache), 0
            if (begin := min(places.beside, cache.length)) < cache.length:
                for own, beside in zip(cache.layers, self.layers, strict=True):
                    beside[:, places.row, :, begin : cache.length] = own[:, :, begin : cache.length]
            places.beside = cache.length
        return [_places(cache).row for cache in caches]

    def bring_back(self, cache: fast.Cache) -> None:
        """Have all that was read of a text in its own cache."""
        places = _places(cache)
        begin, end = min(places.own, cache.length), cache.length
        if begin < end:
            cache.reserve(end)
            for own, beside in zip(cache.layers, self.layers, strict=True):
                own[:, :, begin:end] = beside[:, places.row, :, begin:end]
            places.own = end

    def free(self, cache: fast.Cache) -> None:
        """Take a text back to its own cache."""
        self.bring_back(cache)
        places = _places(cache)
        self.rows[places.row], places.row, places.beside = None, None, 0

    def grow(self, room: int, rows: int) -> None:
        """Have so many rows of so much room. What lies there goes back first."""
        if room <= self.room and rows <= len(self.rows):
            return
        for known in self.rows:
            if known is not None and (cache := known()) is not None:
                self.free(cache)
        self.room = self.room if room <= self.room else max(room, 2 * self.room, 4 * fast.GROWS)
        self.rows = [None] * max(rows, len(self.rows), 4)
        heads, size = self.shape
        self.layers = [torch.empty(2, len(self.rows), heads, self.room, size) for _ in self.layers]


class Graph:
    """The network as an ONNX graph: h (B, S, n_embd), last (B,), total (1,), wanted (W,), keys and values of each layer -> logits (B, W, V), keys and values."""

    def __init__(self, model):
        self.nodes, self.weights, self.model = [], [], model

    def add(self, operator: str, inputs: list[str], *outputs: str, domain: str = "com.microsoft", **settings) -> str:
        self.nodes.append(helper.make_node(operator, inputs, list(outputs), domain=domain, **settings))
        return outputs[0]

    def tensor(self, name: str, value) -> str:
        value = value.detach().contiguous().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def matrix(self, x: str, name: str, *linears) -> str:
        """Linear layers side by side, in 8 bits: each BLOCK weights w of a row are about s (q - 128)."""
        weight = torch.cat([linear.weight for linear in linears])
        out, width = weight.shape
        blocks = torch.nn.functional.pad(weight, (0, -width % BLOCK)).view(out, -1, BLOCK)
        scale = blocks.abs().amax(dim=2).clamp_min(1e-12) / 127
        q = (blocks / scale[:, :, None]).round().add_(128).to(torch.uint8)
        inputs = [x, self.tensor(f"{name}.q", q), self.tensor(f"{name}.s", scale.flatten())]
        if linears[0].bias is not None:
            inputs += ["", "", self.tensor(f"{name}.b", torch.cat([linear.bias for linear in linears]))]
        # accuracy_level 4: what meets the weights is rounded to 8 bits as well, in blocks with a scale each
        return self.add("MatMulNBits", inputs, name, K=width, N=out, bits=8, block_size=BLOCK, accuracy_level=4)

    def norm(self, x: str, name: str, module, added: str = "") -> tuple[str, str]:
        """An RMS norm of x, or of x and `added` together; its name, and that of the sum."""
        weight, epsilon = self.tensor(f"{name}.w", module.weight), module.variance_epsilon
        if not added:
            return self.add("SimplifiedLayerNormalization", [x, weight], name, domain="", epsilon=epsilon, axis=-1), x
        return self.add("SkipSimplifiedLayerNormalization", [x, added, weight], name, "", "", f"{name}.sum", epsilon=epsilon), f"{name}.sum"

    def queries(self, x: str, at, i: int) -> list[str]:
        """Inputs of the attention of layer i: queries, keys and values in one, or apart if each head of them is normalised (Qwen3)."""
        qkv = self.matrix(x, f"{i}.qkv", at.q_proj, at.k_proj, at.v_proj)
        if not hasattr(at, "q_norm"):
            return [qkv, "", ""]
        widths = self.tensor(f"{i}.widths", np.array([part.out_features for part in (at.q_proj, at.k_proj, at.v_proj)], np.int64))
        self.add("Split", [qkv, widths], f"{i}.q", f"{i}.k", f"{i}.v", domain="", axis=-1)
        apart, joined = self.tensor(f"{i}.apart", np.array([0, 0, -1, at.head_dim], np.int64)), self.tensor(f"{i}.joined", np.array([0, 0, -1], np.int64))
        parts = []
        for name, module in (("q", at.q_norm), ("k", at.k_norm)):
            heads = self.add("Reshape", [f"{i}.{name}", apart], f"{i}.{name}.heads", domain="")
            parts.append(self.add("Reshape", [self.norm(heads, f"{i}.{name}.norm", module)[0], joined], f"{i}.{name}.normed", domain=""))
        return [*parts, f"{i}.v"]

    def bytes(self) -> bytes:
        config, body = self.model.config, self.model.model
        cos, sin = body.rotary_emb(body.embed_tokens.weight, torch.arange(config.max_position_embeddings)[None])
        half = cos.shape[-1] // 2
        turn = [self.tensor("cos", cos[0, :, :half]), self.tensor("sin", sin[0, :, :half])]
        x, h = self.norm("h", "0.before", body.layers[0].input_layernorm)
        norms = [*(layer.input_layernorm for layer in body.layers[1:]), body.norm]
        for i, layer in enumerate(body.layers):
            found = self.add(
                "GroupQueryAttention",
                [*self.queries(x, layer.self_attn, i), f"k{i}", f"v{i}", "last", "total", *turn],
                *(f"{i}.found", f"k{i}_out", f"v{i}_out"),
                num_heads=config.num_attention_heads,
                kv_num_heads=config.num_key_value_heads,
                scale=layer.self_attn.scaling,
                do_rotary=1,
            )
            x, h = self.norm(self.matrix(found, f"{i}.o", layer.self_attn.o_proj), f"{i}.between", layer.post_attention_layernorm, added=h)
            self.add(
                "Split", [self.matrix(x, f"{i}.gate_up", layer.mlp.gate_proj, layer.mlp.up_proj)], f"{i}.gate", f"{i}.up", domain="", axis=-1, num_outputs=2
            )
            gated = self.add("Mul", [self.add("QuickGelu", [f"{i}.gate"], f"{i}.silu", alpha=1.0), f"{i}.up"], f"{i}.gated", domain="")
            x, h = self.norm(self.matrix(gated, f"{i}.down", layer.mlp.down_proj), f"{i + 1}.before", norms[i], added=h)
        self.matrix(self.add("Gather", [x, "wanted"], "last.x", domain="", axis=1), "logits", self.model.lm_head)
        return self.written(config)

    def written(self, config) -> bytes:
        def value(name, *shape, kind=TensorProto.FLOAT):
            return helper.make_tensor_value_info(name, kind, shape)

        heads, size, layers = config.num_key_value_heads, fast.head_size(config), range(config.num_hidden_layers)
        numbers = [value("last", "B", kind=TensorProto.INT32), value("total", 1, kind=TensorProto.INT32), value("wanted", "W", kind=TensorProto.INT64)]
        past = [value(f"{part}{i}", "B", heads, "C", size) for i in layers for part in "kv"]
        present = [value(f"{part}{i}_out", "B", heads, "C", size) for i in layers for part in "kv"]
        logits = value("logits", "B", "W", config.vocab_size)
        graph = helper.make_graph(self.nodes, "llama", [value("h", "B", "S", config.hidden_size), *numbers, *past], [*present, logits], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)], ir_version=9).SerializeToString()
