# SPDX-License-Identifier: Apache-2.0
"""Makes a small Llama, kernelizes it in Python, and leaves what the C++ program compares with.

    python llama_block.py FOLDER

FOLDER gets model.safetensors and, for each dtype, the ids with logits and gradients of the plain
and of the kernelized model. Ends with 1 where kernelized and plain differ more than stated.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from kernels import Mode, kernelize, use_kernel_mapping
from llama import Config, LlamaForCausalLM
from safetensors.torch import save_file

import kernelhub

MAPPING = Path(__file__).resolve().parents[2] / "layers" / "registry" / "mappings" / "default.json"
# Norm of the difference over the norm, of logits and of gradients; main.cpp has the same.
TOLERANCES = {torch.float32: (2e-6, 2e-6), torch.bfloat16: (2e-2, 3e-2)}


@dataclass(frozen=True)
class CpuLayer:
    """A layer of a package's build for the CPU, loaded when a model is kernelized."""

    repo: str
    version: int
    layer: str

    def load(self) -> type[torch.nn.Module]:
        """Called by kernelize."""
        kernel = kernelhub.get_kernel(self.repo, version=self.version, backend="cpu")
        return getattr(kernel.layers, self.layer)


def cpu_mapping() -> dict[str, dict[str, dict[Mode, CpuLayer]]]:
    """The shipped mapping's rows for the CPU, as the kernels client wants them."""
    mapping: dict[str, dict[str, dict[Mode, CpuLayer]]] = {}
    for name, rows in json.loads(MAPPING.read_text()).items():
        by_mode = mapping.setdefault(name, {}).setdefault("cpu", {})
        for row in rows:
            if row["device"] != "cpu":
                continue
            mode, *others = (Mode[m] for m in row["mode"])
            for other in others:
                mode |= other
            by_mode[mode] = CpuLayer(row["repo"], row["version"], row["layer"])
    return mapping


def make_model(config: Config) -> LlamaForCausalLM:
    """Norms away from 1, so that a forgotten weight is seen."""
    torch.manual_seed(1234)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.08 * torch.randn_like(parameter))
            if "norm" in name:
                parameter.copy_(1 + 0.1 * torch.randn_like(parameter))
    return model


def train(model: LlamaForCausalLM, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Logits, and the gradients of every parameter from the cross entropy of the next token."""
    model.zero_grad()
    logits = model(ids)
    ahead = logits[:, :-1].reshape(-1, logits.shape[-1])
    torch.nn.functional.cross_entropy(ahead.float(), ids[:, 1:].reshape(-1)).backward()
    found = {"logits": logits.detach()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        found[f"grad.{name}"] = parameter.grad.clone()
    return found


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Norm of the difference over the norm."""
    return float((a.double() - b.double()).norm() / b.double().norm())


def swap(model: LlamaForCausalLM, mode: Mode) -> None:
    """Kernels into every marked layer; an error where one has none."""
    with use_kernel_mapping(cpu_mapping(), inherit_mapping=False):
        kernelize(model, mode=mode, device="cpu", use_fallback=False)


def kernelized(
    model: LlamaForCausalLM, ids: torch.Tensor, plain: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """What the model gives with kernels, compared with `plain`; exits where they differ."""
    swap(model, Mode.INFERENCE)
    with torch.no_grad():
        inferred = model(ids)
    swap(model, Mode.TRAINING)
    swapped = train(model, ids)
    dtype = inferred.dtype
    for_logits, for_gradients = TOLERANCES[dtype]
    rows = [
        ("inference: logits", distance(inferred, plain["logits"]), for_logits),
        ("training: logits", distance(swapped["logits"], plain["logits"]), for_logits),
        (
            "training: gradients",
            max(distance(swapped[n], plain[n]) for n in plain if n != "logits"),
            for_gradients,
        ),
    ]
    print(f"\n{dtype}")
    for title, found, allowed in rows:
        print(f"  kernels to plain, {title:<40} {found:9.2e} of {allowed:.0e}")
        if not found <= allowed:
            raise SystemExit("llama_block: too far")
    if torch.equal(inferred, plain["logits"]):
        raise SystemExit("llama_block: the kernels did not run, every bit is the plain model's")
    return swapped


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    config = Config()
    model = make_model(config)
    save_file(
        {name: p.detach() for name, p in model.named_parameters()},
        folder / "model.safetensors",
        metadata={key: str(value) for key, value in asdict(config).items()},
    )
    ids = torch.randint(config.vocab_size, (2, 10), generator=torch.Generator().manual_seed(5))
    models = {dtype: make_model(config).to(dtype) for dtype in TOLERANCES}
    # All plain models first: the rotary function is one for the whole process, so kernelizing one
    # model swaps it for the others too.
    plain = {dtype: train(model, ids) for dtype, model in models.items()}
    for dtype, model in models.items():
        tensors = {f"plain.{n}": t for n, t in plain[dtype].items()} | {"ids": ids}
        for name, tensor in kernelized(model, ids, plain[dtype]).items():
            tensors[f"kernels.{name}"] = tensor
        save_file(tensors, folder / f"{str(dtype).removeprefix('torch.')}.safetensors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
