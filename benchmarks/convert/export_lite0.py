"""Run by the Python of PyTorch's environment: ``export_lite0.py ARCHITECTURE_FOLDER WEIGHTS.pth MODEL.pt2``."""

from __future__ import annotations

import sys

import torch

SIDE = 224


def main() -> None:
    """Save EfficientNet-Lite0 as an exported program; of the checkpoint only tensors are unpickled."""
    folder, weights, path = sys.argv[1:]
    sys.path.insert(0, folder)
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415 - its folder is given

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, weights_only=True))
    torch.export.save(torch.export.export(model.eval(), (torch.zeros(1, 3, SIDE, SIDE),)), path)


if __name__ == "__main__":
    main()
