"""Every model type of transformers as a small model with example inputs.

The first class of a type, of those with a head before those without, that can be built small (`small_configs.py`)
and runs on inputs that are known (`named_inputs.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
import transformers as hf
from named_inputs import runs
from small_configs import VARIANTS, small
from torch import nn
from transformers.models.auto import modeling_auto as auto

from permgraph.errors import AdapterError

MOST_PARAMETERS = 100e6
ORDER = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_CTC_MAPPING_NAMES",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES",
    "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


def names() -> list[str]:
    """All model types that have a model class."""
    return sorted({model_type for mapping in ORDER for model_type in getattr(auto, mapping)})


def classes(model_type: str) -> Iterator[type[nn.Module]]:
    """The classes for a model type, those with a head first."""
    for mapping in ORDER:
        found = getattr(auto, mapping).get(model_type, ())
        for name in (found,) if isinstance(found, str) else found:
            if (kind := getattr(hf, name, None)) is not None:
                yield kind


def build(model_type: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The first class of a model type that can be built small and runs on inputs that are known."""
    problems: list[str] = []
    unguessed: set[type[nn.Module]] = set()
    for kind, (sizes, fields) in product(list(dict.fromkeys(classes(model_type))), VARIANTS):
        if kind in unguessed:
            continue
        try:
            with torch.device("meta"):
                config = small(kind.config_class, {name: sizes[name] for name in fields})
                size = sum(p.numel() for p in kind(config).parameters())
            if size > MOST_PARAMETERS:
                raise ValueError(f"{size:,} parameters")
            torch.manual_seed(0)
            model = kind(config).float().eval()
            return model, (), runs(model)
        except Exception as error:  # whatever a model's own code raises
            unguessed |= {kind} if isinstance(error, AdapterError) else set()  # whatever its size
            problems.append(f"{kind.__name__}: {type(error).__name__}: {str(error)[:120]}")
    raise RuntimeError("; ".join(dict.fromkeys(problems)))
