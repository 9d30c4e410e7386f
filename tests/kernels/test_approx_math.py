# SPDX-License-Identifier: Apache-2.0
"""The 16-bit CUDA forms are exact whatever the approximate units do within their error bounds, and
what stands for a function of the toolkit is that function.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "kernels-community" / "activation"

# Share of the inputs that may differ from the contract for some error of the units.
ALLOWED = {
    **{"silu": 0.0, "gelu_quick": 0.0, "tanh_range": 0.0, "normal": 0.0},
    **{"gelu_fast": 1e-3, "gelu_new": 1e-3},
}


def constant_bits() -> list[str]:
    """The splits of activation.cu as macros, so that the bits under test are those that ship."""
    source = (PACKAGE / "activation_cuda" / "activation.cu").read_text()
    flags = []
    for dtype, suffix in (("__half", "FP16"), ("__nv_bfloat16", "BF16")):
        body = source.split(f"struct Bits<{dtype}> {{")[1].split("};\n};")[0]
        for name, macro in (("kSqrtTwoOverPi", "SQRT"), ("kCubic", "CUBIC")):
            high, low = re.findall(name + r"\[2\] = \{(\w+), (\w+)", body)[0]
            flags += [f"-D{macro}_HI_{suffix}={high}", f"-D{macro}_LO_{suffix}={low}"]
    return flags


@pytest.fixture(scope="module")
def tallies(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, int]]:
    """Wrong and tried inputs by format and check."""
    program = tmp_path_factory.mktemp("approx_math") / "approx_math"
    command = ["c++", "-std=c++17", "-O2", "-ffp-contract=off", "-I", PACKAGE, *constant_bits()]
    source = Path(__file__).with_name("approx_math.cpp")
    subprocess.run([*command, source, "-o", program], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {(row[0], row[1]): (int(row[2]), int(row[3])) for row in rows}


@pytest.mark.parametrize("form", ["fp16", "bf16"])
@pytest.mark.parametrize("check", sorted(ALLOWED))
def test_no_error_of_the_units_changes_a_rounded_result(
    tallies: dict[tuple[str, str], tuple[int, int]], check: str, form: str
) -> None:
    wrong, tried = tallies[form, check]
    assert tried >= 33_000
    assert wrong <= ALLOWED[check] * tried


# What toolkit functions consist of, as C; $0 is the result.
PTX = {
    "abs.f32": "$0 = std::fabs($1);",
    "neg.f32": "$0 = -$1;",
    "mov.f32": "$0 = $1;",
    "add.f32": "$0 = $1 + $2;",
    "sub.f32": "$0 = $1 - $2;",
    "mul.f32": "$0 = $1 * $2;",
    "fma.rn.f32": "$0 = std::fma($1, $2, $3);",
    "copysign.f32": "$0 = std::copysign($2, $1);",
    "ex2.approx.ftz.f32": "$0 = Units::ex2($1);",
    "rcp.approx.ftz.f32": "$0 = Units::rcp($1);",
    "setp.ge.f32": "$0 = $1 >= $2;",
    "setp.ltu.f32": "$0 = !($1 >= $2);",
    "selp.f32": "$0 = $3 ? $1 : $2;",
    "bra": "goto $0;",
    "ld.global.f32": "$0 = x;",
    "st.global.f32": "result = $1;",
    "ret": "return result;",
}
# Where the argument comes from.
ADDRESSES = {"ld.param.u64", "cvta.to.global.u64"}


def as_c(function: str, ptx: str) -> str:
    """A kernel `p[0] = function(p[0])` as a C function of one float."""
    body = ptx.split(f"entry kernel_{function}(")[1].split("{", 1)[1].split("\n}")[0]
    registers = {kind: sorted(set(re.findall(rf"%{kind}\d+", body))) for kind in ("f", "p")}
    lines = [f"float toolkit_{function}(float x) {{", "float result = 0.0f;"]
    for kind, names in (("float", registers["f"]), ("bool", registers["p"])):
        lines += [f"{kind} {name[1:]};" for name in names]
    code = re.compile(r"(?:@%(p\d+)\s+)?([a-z][\w.]*)\s*(.*?)\s*;")
    for line in body.splitlines():
        label = re.match(r"\$(\w+):", line)
        if label:
            lines.append(f"{label[1]}:;")
        match = code.match(line.strip())
        if match is None or match[2] in ADDRESSES:
            continue
        operands = [part.strip().lstrip("%$") for part in match[3].split(",")]
        operands = [re.sub(r"^0f(\w{8})$", r"of_bits(0x\1u)", part) for part in operands]
        text = PTX[match[2]]
        for index, operand in enumerate(operands):
            text = text.replace(f"${index}", operand)
        lines.append(f"if ({match[1]}) {text}" if match[1] else text)
    return "\n".join([*lines, "}", ""])


def test_the_toolkit_computes_these_functions_by_the_same_operations(tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc to compile the toolkit's functions with")
    functions = ("erff", "tanhf")
    source = tmp_path / "functions.cu"
    kernel = 'extern "C" __global__ void kernel_{0}(float* p) {{ p[0] = {0}(p[0]); }}\n'
    source.write_text("".join(kernel.format(function) for function in functions))
    ptx = tmp_path / "functions.ptx"
    subprocess.run([nvcc, "-O3", "-arch=sm_90", "-ptx", source, "-o", ptx], check=True)
    translated = "".join(as_c(function, ptx.read_text()) for function in functions)
    (tmp_path / "toolkit_functions.inc").write_text(translated)
    program = tmp_path / "toolkit_math"
    command = ["c++", "-std=c++17", "-O2", "-ffp-contract=off", "-I", PACKAGE]
    harness = Path(__file__).with_name("toolkit_math.cpp")
    subprocess.run([*command, "-I", tmp_path, harness, "-o", program], check=True)
    done = subprocess.run([program], check=True, capture_output=True, text=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    tried = {(row[0], row[1]): int(row[3]) for row in rows}
    assert tried[("erf", "fp32")] > 8_000_000
    assert tried[("tanh", "fp32")] > 4_000_000
    assert tried[("erf", "gelu_fp16")] == tried[("erf", "gelu_bf16")] == 65_536
    assert all(row[2] == "0" for row in rows), done.stdout
