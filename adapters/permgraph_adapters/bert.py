"""BERT and related encoders of text, whose last residual stream is their output."""

from typing import ClassVar

from permgraph_adapters.native import NativeAdapter


class BertAdapter(NativeAdapter):
    """BERT, RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT, ELECTRA and data2vec-text.

    Relative positions (`position_embedding_type`) are refused: the classes of transformers no longer know the field,
    and would read the checkpoint as one with absolute positions.
    """

    model_types = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "data2vec-text")
    must_be: ClassVar = {"position_embedding_type": "absolute"}
    unused = (
        "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
        "pooler_size_per_head", "pooler_type", "tie_weights_",
    )  # fmt: skip
