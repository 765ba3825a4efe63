"""wav2vec 2.0."""

from permgraph_adapters.speech import SpeechAdapter


class Wav2Vec2Adapter(SpeechAdapter):
    """wav2vec 2.0 as `Wav2Vec2Model`, or with one of its heads."""

    model_types = ("wav2vec2",)
    config_class = "Wav2Vec2Config"
    bare_class = "Wav2Vec2Model"
