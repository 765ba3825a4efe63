"""HuBERT, and MERT as a HuBERT: speech and music encoders on raw waveforms.

MERT (`model_type` "mert_model") comes with a class in code in its folder. That code is never run: its config is
read as JSON and mapped to HuBERT's, which computes the same function unless one of MERT's own switches is on.
"""

from permgraph_adapters.speech import SpeechAdapter


class HubertAdapter(SpeechAdapter):
    """HuBERT and MERT as `HubertModel`, or with HuBERT's heads."""

    model_types = ("hubert", "mert_model")
    config_class = "HubertConfig"
    bare_class = "HubertModel"
    old_prefix = "mert_model."
