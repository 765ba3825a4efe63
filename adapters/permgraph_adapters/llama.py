"""Llama and related decoders with rotary positions, grouped-query attention and gated layers."""

from typing import ClassVar

from permgraph_adapters.native import NativeAdapter


class LlamaAdapter(NativeAdapter):
    """Llama, Mistral, Qwen2 and Qwen3; a bare model's residual stream is free, a language model's logits are fixed."""

    model_types = ("llama", "mistral", "qwen2", "qwen3")
    spelled_otherwise = ("rope_theta", "rope_scaling")
    unused = ("pretraining_tp",)
    must_be: ClassVar = {"use_mrope": False}
