"""What single families need so that they can be built small: fields of a configuration.

The general rules are in `small_configs.py` and `named_inputs.py`. This file has what no rule gives: numbers that must
fit each other in one family's code. A row holds wherever a configuration of that model type (or, where it has none, of
that class) occurs, alone or as a part of another.
"""

from __future__ import annotations

from typing import Any

from transformers import TimmWrapperConfig

PLAIN = {"rope_type": "default", "rope_theta": 1e4}
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
SERIES = {"prediction_length": 4, "context_length": 8, "lags_sequence": [1, 2], "num_time_features": 1}
FEATURES = [[16, 16], [8, 8], [4, 4]]
SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4]}
CONV_STACK = {"num_filters": 2, "depths": [1] * 7}

CODEC = {
    "upsample_groups": 32,
    "num_filters": 8,
    "codebook_size": 32,
    "codebook_dim": 16,
    "vector_quantization_hidden_dimension": 16,
    "num_quantizers": 4,
}
FIELDS: dict[str, dict[str, Any]] = {
    # backbones
    "resnet_backbone": STAGES,
    "timm_backbone": {"backbone": "resnet18"},
    "timm_wrapper": {"architecture": "vit_tiny_patch16_224"},
    "swin": SWIN | {"window_size": 2},
    "lw_detr_vit": {"num_hidden_layers": 4, "out_features": ["stage2", "stage4"], "num_windows": 4, "image_size": 64},
    # text
    "cohere_compass_text": {"rope_parameters": {"full_attention": PLAIN, "sliding_attention": PLAIN}},
    "DbrxAttentionConfig": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0},
    "deepseek_v2": {"num_key_value_heads": 4, "n_group": 1, "topk_group": 1},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "num_key_value_heads": 4},
    "diffusion_gemma": {"canvas_length": 8},
    "diffusion_gemma_text": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24},
    "dots1": {"n_shared_experts": 1},
    "esm": {"pad_token_id": 1, "mask_token_id": 4},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 99,
        "intermediate_size": [64, 64],
        "laurel_rank": 8,
    },
    "gemma4_text": {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 99},
    "glm4v_text": {"rope_parameters": PLAIN | {"mrope_section": [2, 1, 1], "partial_rotary_factor": 1.0}},
    "glm_image_text": {"rope_parameters": PLAIN | {"mrope_section": [2, 1, 1], "partial_rotary_factor": 1.0}},
    "hunyuan_vl_text": {"rope_parameters": PLAIN | {"mrope_section": [1, 1, 1, 1]}},
    "inkling2_text": {
        "unpadded_vocab_size": 99,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 8,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "luke": {"entity_vocab_size": 50, "entity_emb_size": 16},
    "mamba2": {"hidden_size": 32, "num_heads": 8, "head_dim": 8, "n_groups": 2},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron3_5_transcribe_asr_audio": {"num_key_value_heads": 4},
    "nemotron3_5_transcribe_word_timestamp": {"num_key_value_heads": 4},
    "nemotron3_diarization_audio": {"num_key_value_heads": 4},
    "perceiver": {
        "d_latents": 32,
        "num_latents": 8,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
    },
    "step3p5": {"sliding_window": 8},
    "t5gemma2_text": {"dropout_rate": 0.0},
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "hybrid"],
    },
    "zamba2": {"num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"]},
    "xmod": {"languages": ("en_XX",), "default_language": "en_XX"},
    # blt: a global width beside the local one
    "blt_local_encoder": {"hidden_size_global": 32, "num_key_value_heads": 4, "head_dim": 8},
    "blt_local_decoder": {"hidden_size_global": 32, "num_key_value_heads": 4, "head_dim": 8},
    "blt_global_transformer": {"num_key_value_heads": 4, "head_dim": 8},
    "blt_patcher": {"num_key_value_heads": 4, "head_dim": 8},
    "blt": {"patching_mode": "static", "encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [3, 4]},
    # images
    "apertus1p5": {"image_token_offset": 40, "audio_token_offset": 56},
    "apertus1p5_vision_tokenizer": {"codebook_size": 16, "base_channels": 32, "num_res_blocks": 1},
    "blip-2": {"image_token_index": 97},
    "blip_2_qformer": {"num_attention_heads": 4},
    "chameleon": {"vocabulary_map": {"<image>": 97}},
    "chameleon_vqgan": {"base_channels": 32, "num_embeddings": 16, "latent_channels": 32, "num_res_blocks": 1},
    "depth_anything": {"reassemble_hidden_size": 32},
    "prompt_depth_anything": {"reassemble_hidden_size": 32},
    "depth_pro": {
        "patch_size": 32,
        "intermediate_hook_ids": (1, 0),
        "intermediate_feature_dims": (32, 32),
        "scaled_images_feature_dims": (32, 32, 16),
        "fusion_hidden_size": 32,
    },
    "edgetam_vision_model": {
        "backbone_config": TimmWrapperConfig(
            architecture="resnet18", model_args={"features_only": True, "out_indices": [1, 2, 3, 4]}
        ),
        "backbone_channel_list": [512, 256, 128, 64],
        "backbone_feature_sizes": FEATURES,
        "fpn_hidden_size": 32,
    },
    "fast_vlm": {"vision_config": TimmWrapperConfig(architecture="resnet18", hidden_size=512)},
    "gemma3n_vision": {"architecture": "resnet18", "hidden_size": 512},
    "gemma4_vision": {"position_embedding_size": 64, "pooling_kernel_size": 2},
    "granite4_vision": {"deepstack_layer_map": [[0, 0]], "downsample_rate": "1/2", "spatial_target_layers": [0]},
    "idefics_perciever": {"resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2},
    "instructblip": {"image_token_index": 97, "num_query_tokens": 4},
    "instructblip_qformer": {"num_attention_heads": 4},
    "instructblipvideo": {"video_token_index": 97, "num_query_tokens": 4},
    "instructblipvideo_qformer": {"num_attention_heads": 4},
    "inkling2_vision": {"text_hidden_size": 32},
    "kosmos_2_text_model": {"layers": 2, "attention_heads": 4},
    "kosmos-2": {"latent_query_num": 4},
    "lw_detr": {
        "projector_scale_factors": [1.0],
        "decoder_self_attention_heads": 4,
        "decoder_cross_attention_heads": 4,
    },
    "rf_detr": {"decoder_self_attention_heads": 4, "decoder_cross_attention_heads": 4},
    "lxmert": {"l_layers": 1, "x_layers": 1, "r_layers": 1, "visual_feat_dim": 8},
    "molmo2_adapter": {"vision_feature_layer": [1, 0], "text_hidden_size": 32},
    "muse_spark": {"out_hidden_size": 32, "projector_hidden_size": 32},
    "sam2_hiera_det_model": {
        "hidden_size": 16,
        "num_attention_heads": 1,
        "blocks_per_stage": [1, 1, 1, 1],
        "embed_dim_per_stage": [16, 32, 48, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "global_attention_blocks": [0],
        "image_size": [64, 64],
    },
    "sam2_vision_model": {
        "backbone_channel_list": [64, 48, 32, 16],
        "backbone_feature_sizes": FEATURES,
        "fpn_hidden_size": 32,
    },
    "sam2_prompt_encoder": {"image_size": 64, "patch_size": 16},
    "edgetam_prompt_encoder": {"image_size": 64, "patch_size": 16},
    "sam3_vit_model": {"global_attn_indexes": [1], "window_size": 2, "pretrain_image_size": 32},
    "sam3_vision_model": {"backbone_feature_sizes": FEATURES, "fpn_hidden_size": 32},
    "seggpt": {
        "image_size": (64, 32),
        "pretrain_image_size": 32,
        "merge_index": 0,
        "intermediate_hidden_state_indices": (0, 1),
    },
    "vjepa2": {
        "crop_size": 32,
        "frames_per_clip": 4,
        "pred_hidden_size": 32,
        "pred_num_attention_heads": 4,
        "pred_num_hidden_layers": 2,
    },
    # sound
    "csm": {"num_codebooks": 4, "codebook_pad_token_id": 0},
    "csm_depth_decoder_model": {"num_codebooks": 4, "backbone_hidden_size": 32},
    "dia_decoder": {
        "cross_num_attention_heads": 4,
        "cross_head_dim": 8,
        "cross_num_key_value_heads": 2,
        "cross_hidden_size": 32,
    },
    "gemma3n_audio": {
        "conf_num_attention_heads": 4,
        "conf_num_hidden_layers": 2,
        "input_feat_size": 16,
        "sscp_conv_channel_size": (8, 4),
    },
    "gemma4_audio": {"use_clipped_linears": False},
    "kyutai_speech_to_text": {"codebook_vocab_size": 33, "audio_pad_token_id": 32, "num_codebooks": 4},
    **dict.fromkeys(("mimi", "mimi_encoder", "mimi_decoder", "pocket_tts_audio_tokenizer_decoder"), CODEC),
    "moonshine_streaming": {"num_key_value_heads": 4},
    "moonshine_streaming_encoder": {"sliding_windows": [[16, 4], [16, 4]]},
    "muse_spark_audio": {"hidden_sizes": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "out_hidden_size": 32},
    "neucodec": {"quantization_dim": 64},
    "xcodec2": {"quantization_dim": 64},
    "Nemotron3DiarizationHeadConfig": {"audio_hidden_size": 32, "hidden_size": 16},
    "vibevoice_acoustic_tokenizer": CONV_STACK,
    "vibevoice_acoustic_tokenizer_encoder": CONV_STACK,
    "vibevoice_acoustic_tokenizer_decoder": CONV_STACK,
    "qwen3_asr_encoder": {"n_window": 16, "n_window_infer": 64},
    "wavtokenizer_encoder": {"codebook_size": 16, "decoder_num_layers": 2},
    # series
    "timesfm": {"context_length": 128},
    "timesfm2_5": {"context_length": 128},
    "autoformer": SERIES,
    "informer": SERIES,
    "time_series_transformer": SERIES,
}
