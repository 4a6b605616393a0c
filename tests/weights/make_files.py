"""Writes the files of `data/` with PyTorch itself (any version since 1.6); run by hand.

python tests/weights/make_files.py
"""

import collections
import pathlib
import zipfile

import numpy as np
import torch

DATA = pathlib.Path(__file__).parent / "data"


def tensors():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    return collections.OrderedDict(
        {
            "module.float": base,
            "module.shared_transposed": base.T,
            "module.shared_part": base[1:3, ::2],
            "module.half": base.half(),
            "module.bfloat16": base.bfloat16(),
            "module.double": base.double(),
            "module.long": torch.arange(-3, 3),
            "module.int": torch.arange(5, dtype=torch.int32),
            "module.byte": torch.arange(3, dtype=torch.uint8),
            "module.bool": torch.tensor([True, False, True]),
            "module.scalar": torch.tensor(7),
            "module.empty": torch.zeros(0, 3),
            "module.parameter": torch.nn.Parameter(base[0].clone()),
        }
    )


class Block(torch.nn.Module):
    """A part of a scripted module, with what lies beside tensors in an archive."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 1, bias=False)
        self.bn = torch.nn.BatchNorm2d(3)
        self.sizes = [1, 2, 3]
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        return self.bn(self.conv(x)) * self.scale + self.sizes[0]


class Network(torch.nn.Module):
    """A module to script: nested modules, buffers, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(3, 4))
        self.blocks = torch.nn.Sequential(Block(), torch.nn.ReLU())
        self.names = {"a": 1}
        self.context_length = 77

    def forward(self, x):
        return self.blocks(x) + self.context_length + self.names["a"]


def write_script():
    """A TorchScript archive of halves, as OpenAI published CLIP, and what is in it."""
    torch.manual_seed(0)
    module = torch.jit.script(Network().half().eval())
    module.save(str(DATA / "script.pt"))
    with zipfile.ZipFile(DATA / "script.pt") as archive:
        entries = {entry: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(DATA / "script.pt", "w") as archive:
        for entry, data in entries.items():
            if not entry.filename.endswith("debug_pkl"):  # Names of files on this machine.
                archive.writestr(entry, data)
    arrays = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    np.savez(DATA / "script.npz", **arrays)


def main():
    DATA.mkdir(exist_ok=True)
    state = tensors()
    checkpoint = {
        "state_dict": state,
        "epoch": 12,
        "best_mAP": np.float64(0.5),  # As training scripts save it.
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]},
    }
    torch.save(checkpoint, DATA / "zip.pth")
    torch.save(checkpoint, DATA / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), DATA / "whole_module.pth")
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.save(module.state_dict(), DATA / "module_state.pth")
    unsigned = {"a": torch.arange(4).to(torch.uint16), "b": torch.ones(2, dtype=torch.complex64)}
    torch.save(unsigned, DATA / "newer_types.pth")
    # As CCLNet's training script saves it.
    figures = {"cmc": np.linspace(0, 1, 20, dtype=np.float32), "mAP": np.float64(0.5), "epoch": 7}
    torch.save({"state_dict": module.state_dict(), **figures}, DATA / "figures.pth")
    write_script()
    arrays = {
        name: (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
        for name, tensor in state.items()
    }
    np.savez(DATA / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
