# SPDX-License-Identifier: Apache-2.0
"""transformers on our attention packages, offline: a tiny Llama and a tiny gpt-oss on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

PROGRAM = """
import pathlib
import sys
import kernels
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations import hub_kernels

name, kind, folder = sys.argv[1:]
# transformers takes a narrow range of versions of `kernels`, which the installed one may miss:
# the door is held open, what loads and what is called stay the real ones.
hub_kernels.is_kernels_available = lambda *_, **__: True
hub_kernels.get_kernel_hub = lambda repository, **_: kernels.get_local_kernel(
    pathlib.Path(folder), backend="cpu"
)
torch.manual_seed(5)
torch.set_num_threads(1)
sizes = dict(
    vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=128,
)
if kind == "gpt_oss":
    sizes |= dict(num_local_experts=2, num_experts_per_tok=1, sliding_window=8)
config = AutoConfig.for_model(kind, **sizes)
eager = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
flash = AutoModelForCausalLM.from_config(config, attn_implementation=name).eval()
flash.load_state_dict(eager.state_dict())
tokens = torch.randint(3, 97, (2, 23))
mask = torch.ones_like(tokens)
mask[0, :6] = 0  # padded on the left: the varlen path
with torch.no_grad():
    whole, padded = {}, {}
    for which, model in (("eager", eager), ("flash", flash)):
        whole[which] = model(tokens).logits
        padded[which] = model(tokens, attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(whole["flash"], whole["eager"], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(padded["flash"], padded["eager"], atol=2e-5, rtol=1e-5)
    options = dict(max_new_tokens=6, do_sample=False, pad_token_id=0)
    expected = eager.generate(tokens, **options)
    assert torch.equal(flash.generate(tokens, **options), expected)
assert flash.config._attn_implementation == name, flash.config._attn_implementation
print("equal")
"""


@pytest.mark.parametrize(
    ("package", "kind"), [("flash-attn2", "llama"), ("vllm-flash-attn3", "gpt_oss")]
)
def test_a_model_computes_with_the_package_what_it_computes_in_eager_mode(
    package: str, kind: str
) -> None:
    root = os.environ.get("KERNELHUB_PACKAGES_DIR")
    if root is None:
        pytest.skip("KERNELHUB_PACKAGES_DIR names no folder of built packages")
    name = f"kernels-community/{package}"
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, kind, str(Path(root) / package)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-4000:]
    assert "equal" in child.stdout
