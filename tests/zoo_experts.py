"""Tiny mixtures of experts of transformers, for the table in `zoo`, each in another of the library's own forms.

The experts are permuted with the router's rows, L(experts), and the units of each expert alone.
"""

from __future__ import annotations

from zoo_rows import L, Row
from zoo_transformers import GQA, MOE, RESIDUAL, ROTARY, SINGLE, TEXT, D, of, text

HEADS = ROTARY - D
"""Attention with rotary embedding alone."""
EAGER, BATCHED = {"experts_implementation": "eager"}, {"experts_implementation": "batched_mm"}
SPARSE = {**GQA, **EAGER, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {
    **TEXT,
    **EAGER,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "q_lora_rank": 12,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "head_dim": 8,
    "topk_group": 1,
}
LATENTS = L(12) + L(16) + L(4) + 4 * (L(8) + L(6))
"""Latent attention: the two latents, 4 heads, QK where it does not rotate and VO of each."""
EXPERTS = L(3) + 3 * L(24)
ROWS = (
    Row(
        "MixtralForCausalLM",
        of("MixtralForCausalLM", MOE | BATCHED, text),
        RESIDUAL + 2 * (HEADS + L(3) + 3 * D),
        tolerance=SINGLE,
    ),
    Row(
        "Qwen2MoeForCausalLM",
        of("Qwen2MoeForCausalLM", SPARSE | {"shared_expert_intermediate_size": 20}, text),
        RESIDUAL + 2 * (HEADS + EXPERTS + L(20)),
        tolerance=SINGLE,
    ),
    Row(
        "Qwen3MoeForCausalLM",
        of("Qwen3MoeForCausalLM", SPARSE, text),
        RESIDUAL + 2 * (HEADS + EXPERTS),
        tolerance=SINGLE,
    ),
    Row(
        "OlmoeForCausalLM",
        of("OlmoeForCausalLM", SPARSE, text),
        RESIDUAL + 2 * (HEADS + L(3) + 3 * D),
        tolerance=SINGLE,
    ),
    Row(
        "GptOssForCausalLM",
        of("GptOssForCausalLM", MOE | EAGER | {"layer_types": ["full_attention"] * 2}, text),
        RESIDUAL + 2 * (HEADS + L(3) + 3 * D),
        tolerance=SINGLE,
    ),
    Row(
        "DeepseekV2ForCausalLM",
        of("DeepseekV2ForCausalLM", LATENT | {"n_routed_experts": 3, "n_group": 1}, text),
        RESIDUAL + 2 * LATENTS + D + EXPERTS + L(48),
        tolerance=SINGLE,
    ),
    Row(
        "DeepseekV3ForCausalLM",
        of("DeepseekV3ForCausalLM", LATENT | {"n_routed_experts": 6, "n_group": 2}, text),
        RESIDUAL + 2 * LATENTS + D + L(2) + 2 * L(3) + 6 * L(24) + L(48),
        tolerance=SINGLE,
    ),
)
