"""WavLM, whose relative positions hold the heads of all layers together."""

from permgraph_adapters.speech import SpeechAdapter


class WavLMAdapter(SpeechAdapter):
    """WavLM as `WavLMModel`, or with one of its heads."""

    model_types = ("wavlm",)
    config_class = "WavLMConfig"
    bare_class = "WavLMModel"
