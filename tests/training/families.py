"""Tiny random models of the families of transformers, two layers each, with every mechanism of the family switched on.

Windows are shorter than the pairs of the tests. Numbers that the table leaves out are those of `SMALL`.
"""

from __future__ import annotations

from typing import Any

import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

QWEN2_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SMALL: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "initializer_range": 0.1,
}  # fmt: skip
WINDOW = {"sliding_window": 16}
TURNS = {"layer_types": ["sliding_attention", "full_attention"]}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "output_router_logits": True, "router_aux_loss_coef": 0.1}
MIXTRAL = {"num_local_experts": 4, "num_experts_per_tok": 2, "output_router_logits": True, "router_aux_loss_coef": 0.1}
ROPE = {"rope_theta": 10_000.0}
LLAMA3 = {**ROPE, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
LONGROPE = {**ROPE, "rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8,
            "original_max_position_embeddings": 64}  # fmt: skip
LATENT = {
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "head_dim": 8, "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_shared_experts": 1,
}  # fmt: skip

PACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2 with windows": ("Qwen2Config", {"use_sliding_window": True, "max_window_layers": 1, **WINDOW}),
    "llama": ("LlamaConfig", {}),
    "llama 3, scaled": ("LlamaConfig", {"rope_parameters": LLAMA3}),
    "smollm2, tied": ("LlamaConfig", {"tie_word_embeddings": True, "num_attention_heads": 6, "hidden_size": 96,
                                      "num_key_value_heads": 3}),
    "mistral": ("MistralConfig", WINDOW),
    "mistral without a window": ("MistralConfig", {"sliding_window": None}),
    "ministral": ("MinistralConfig", {**WINDOW, **TURNS}),
    "gemma": ("GemmaConfig", {}),
    "gemma2": ("Gemma2Config", {**WINDOW, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0}),
    "gemma3_text": ("Gemma3TextConfig", {**WINDOW, **TURNS, "query_pre_attn_scalar": 16}),
    "gemma4_text": ("Gemma4TextConfig", {**WINDOW, **TURNS, "global_head_dim": 16, "num_kv_shared_layers": 0,
                                         "vocab_size_per_layer_input": 512, "hidden_size_per_layer_input": 16}),
    "phi3": ("Phi3Config", WINDOW),
    "phi3 longrope": ("Phi3Config", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 64}),
    "granite": ("GraniteConfig", {"attention_multiplier": 0.2, "logits_scaling": 2.0, "residual_multiplier": 0.5}),
    "glm": ("GlmConfig", {}),
    "glm4": ("Glm4Config", {}),
    "olmo": ("OlmoConfig", {}),
    "olmo2": ("Olmo2Config", {}),
    "olmo3": ("Olmo3Config", {**WINDOW, **TURNS}),
    "smollm3": ("SmolLM3Config", {"no_rope_layers": [1, 0]}),
    "cohere": ("CohereConfig", {"logit_scale": 0.5, "use_qk_norm": True}),
    "cohere2": ("Cohere2Config", {**WINDOW, **TURNS}),
    "ernie4_5": ("Ernie4_5Config", {}),
    "hunyuan_v1_dense": ("HunYuanDenseV1Config", {}),
    "starcoder2": ("Starcoder2Config", {**WINDOW, "embedding_dropout": 0.0, "residual_dropout": 0.0}),
    "gpt2": ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512, "resid_pdrop": 0.0,
                            "attn_pdrop": 0.0, "embd_pdrop": 0.0}),
    "apertus": ("ApertusConfig", {}),
    "arcee": ("ArceeConfig", {}),
    "exaone4": ("Exaone4Config", {**WINDOW, **TURNS}),
    "seed_oss without dropout": ("SeedOssConfig", {"attention_dropout": 0.0, "residual_dropout": 0.0}),
    "mixtral": ("MixtralConfig", {**WINDOW, **MIXTRAL}),
    "qwen2_moe": ("Qwen2MoeConfig", {**ROUTED, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}),
    "qwen3_moe": ("Qwen3MoeConfig", {**ROUTED, "moe_intermediate_size": 32, "mlp_only_layers": [0]}),
    "olmoe": ("OlmoeConfig", ROUTED),
    "gpt_oss": ("GptOssConfig", {**WINDOW, **TURNS, **MIXTRAL, "rope_parameters": {**ROPE, "rope_type": "default"}}),
    "deepseek_v3": ("DeepseekV3Config", LATENT),
    "glm4_moe": ("Glm4MoeConfig", {k: v for k, v in LATENT.items() if "rank" not in k and "_dim" not in k}),
    "granitemoe without its loss": ("GraniteMoeConfig", {"num_local_experts": 4, "num_experts_per_tok": 2,
                                                         "router_aux_loss_coef": 0.0}),
}  # fmt: skip
"""Families whose packed forward pass is the padded one."""

LINEAR = {"layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4,
          "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16}  # fmt: skip
OWN_WAY: dict[str, tuple[str, dict[str, Any], str]] = {
    "stablelm": ("StableLmConfig", {}, "do not pass the layout"),
    "nemotron": ("NemotronConfig", {}, "do not pass the layout"),
    "seed_oss": ("SeedOssConfig", {"attention_dropout": 0.1, "residual_dropout": 0.0}, "drops 10% of its weights"),
    "seed_oss, residual dropout": ("SeedOssConfig", {"attention_dropout": 0.0, "residual_dropout": 0.1}, "differ by"),
    "opt": ("OPTConfig", {"word_embed_proj_dim": 64, "ffn_dim": 128}, "differ by"),
    "gptj": ("GPTJConfig", {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8}, "cannot be replaced"),
    "bloom": ("BloomConfig", {"n_head": 4, "n_layer": 2}, "cannot be replaced"),
    "lfm2": ("Lfm2Config", {"layer_types": ["conv", "full_attention"]}, "differ by"),
    "qwen3_5_text": ("Qwen3_5TextConfig", LINEAR, "differ by"),
    "recurrent_gemma": (
        "RecurrentGemmaConfig", {"block_types": ["recurrent", "attention"], "lru_width": 64}, "differ by",
    ),
    "mamba": ("MambaConfig", {"state_size": 8}, "the packed one fails"),
}  # fmt: skip
"""Families that run the stock forward pass, and words of the reason."""


def tiny(kind: str, options: dict[str, Any]) -> PreTrainedModel:
    """Return a float32 model; its weights are random, and large enough for every part to matter."""
    import torch

    torch.manual_seed(0)
    config = getattr(transformers, kind)(**{**SMALL, **options})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
