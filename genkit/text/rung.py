"""What n-gram, hidden Markov model and LSTM have in common: a transformers model that remembers the text so far in a memory of fixed size.

So whatever writes with a transformer writes with them: forward() takes and gives a `past_key_values`, which here holds that memory. B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


@dataclass(frozen=True)
class Memory:
    """What a model remembers of the text so far: tensors whose dimension `batch` is B, and the tokens that it has read. It is never changed, only replaced."""

    tensors: tuple[torch.Tensor, ...]
    length: int
    batch: int = 0
    is_compileable = False  # transformers asks

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def reorder_cache(self, rows: torch.Tensor) -> Memory:
        """The memories of these rows of the batch, in this order."""
        return Memory(tuple(tensor.index_select(self.batch, rows) for tensor in self.tensors), self.length, self.batch)


class Rung(PreTrainedModel, GenerationMixin):
    """A causal language model with a read() of its own."""

    main_input_name = "input_ids"
    memory_batch = 0  # the dimension of the memory's tensors that is B

    def read(self, ids: torch.Tensor, memory: tuple[torch.Tensor, ...] | None, keep: int) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Logits (B, keep, V) of the tokens after each of the last `keep` of ids (B, T), and the memory after all of them."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises ValueError where the weights cannot be those of this model, though their shapes fit."""

    def forward(self, input_ids, past_key_values: Memory | None = None, use_cache: bool = True, logits_to_keep: int = 0, attention_mask=None, **others):
        """Logits (B, T, V), or the last `logits_to_keep` of the T, and the Memory that the next tokens need. Rows of a batch are of one length: there is no padding."""
        if attention_mask is not None and not bool(attention_mask.all()):
            raise ValueError("attention_mask masks tokens; give texts of one length, or one at a time")
        memory, seen = (past_key_values.tensors, past_key_values.length) if past_key_values is not None else (None, 0)
        logits, memory = self.read(input_ids, memory, logits_to_keep or input_ids.shape[1])
        after = Memory(memory, seen + input_ids.shape[1], self.memory_batch) if use_cache else None
        return CausalLMOutputWithPast(logits=logits, past_key_values=after)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:  # transformers: generate() begins without a cache and takes the one that forward() gives
        return False


def register(config: type, model: type) -> None:
    """Let transformers' Auto classes open folders of this kind, once genkit.text is imported: no code comes with the folder."""
    model.config_class = config
    AutoConfig.register(config.model_type, config)
    AutoModelForCausalLM.register(config, model)
