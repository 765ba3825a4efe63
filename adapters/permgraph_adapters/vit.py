"""Vision transformers: ViT, DeiT, BEiT, DINOv2 and data2vec-vision."""

from pathlib import Path
from typing import Any

from permgraph_adapters.native import NativeAdapter

FACTS = ("image_mean", "image_std", "size", "crop_size", "resample", "do_normalize", "do_rescale", "rescale_factor")


class ViTAdapter(NativeAdapter):
    """Encoders of images; their mask token, which only pre-training uses, moves with the class token."""

    model_types = ("vit", "deit", "beit", "dinov2", "data2vec-vision")

    def input_facts(self, folder: Path | None, config: Any) -> dict[str, Any]:
        """How the image processor makes pixels, as far as its file says."""
        from permgraph.checkpoints.json_files import read_json

        path = None if folder is None else folder / "preprocessor_config.json"
        fields = {} if path is None or not path.is_file() else read_json(path)
        return {name: fields[name] for name in FACTS if name in fields}
