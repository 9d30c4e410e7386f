# SPDX-License-Identifier: Apache-2.0
"""Every option of `attention_forward` by name, which no public function of a package has."""

from types import ModuleType
from typing import Any

import torch


def attend(package: ModuleType, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and log-sum-exp of one call: q, k, v, out and the fields of the options' tuples."""
    shared = package._attention

    def take(kind: Any) -> Any:
        return kind(**{name: options.pop(name) for name in kind._fields if name in options})

    groups = [take(kind) for kind in (shared.Scoring, shared.Lengths, shared.Rotation)]
    scoring, lengths, rotation = groups
    result: tuple[torch.Tensor, torch.Tensor] = shared.attend(
        "test", scoring=scoring, lengths=lengths, rotation=rotation, **options
    )
    return result
