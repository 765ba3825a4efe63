"""data2vec-audio, whose positions come from a stack of convolutions."""

from permgraph_adapters.speech import SpeechAdapter


class Data2VecAudioAdapter(SpeechAdapter):
    """data2vec-audio as `Data2VecAudioModel`, or with one of its heads."""

    model_types = ("data2vec-audio",)
    config_class = "Data2VecAudioConfig"
    bare_class = "Data2VecAudioModel"
