# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/run and benchmarks/gpu/run as far as they go without a GPU."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
NO_GPU = 77
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "gpu"), str(ROOT / "tests/gpu")]

import activation_checks  # noqa: E402
import attention_checks  # noqa: E402
import checks  # noqa: E402
import device_build  # noqa: E402
import families  # noqa: E402
import floors  # noqa: E402
import problem_worker  # noqa: E402
import registry  # noqa: E402
from families.family import Buffers, Call, Candidate  # noqa: E402
from families.floors import GPU_LARGE, GPU_SMALL  # noqa: E402
from own_process import Budget  # noqa: E402
from protocol.gate import MISSED  # noqa: E402
from protocol.rows import Result, Row  # noqa: E402


def load(name: str, path: str) -> ModuleType:
    """By path: each driver calls itself driver.py."""
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


benchmark = load("gpu_benchmark_driver", "benchmarks/gpu/driver.py")
checks_driver = load("gpu_checks_driver", "tests/gpu/driver.py")

COMMANDS = ("tests/gpu/run", "benchmarks/gpu/run")


def run(command: str, *flags: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KERNELHUB_PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [str(ROOT / command), *flags], capture_output=True, text=True, env=environment
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_gpu_a_command_says_so_and_ends_with_77(command: str) -> None:
    done = run(command)
    assert done.returncode == NO_GPU
    assert "no GPU that torch can use" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_list_need_no_gpu(command: str) -> None:
    assert "--quick" in run(command, "--help").stdout
    listing = run(command, "--list", "--quick", "--op", "gelu_fast")
    assert listing.returncode == 0
    assert len(listing.stdout.splitlines()) >= 3


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is absent")
def test_a_package_compiles_from_build_toml_alone(tmp_path: Path) -> None:
    built = device_build.build(["relu"], tmp_path, Budget(), arch="90")
    folder = built["relu"].folder
    assert folder is not None
    script = f"""
import sys, torch
sys.path.insert(0, {str(folder.parent)!r})
import relu
schema = torch.ops._relu_gpu.relu.default._schema
assert str(schema) == "_relu_gpu::relu(Tensor($0! -> ) out, Tensor input) -> ()", schema
try:
    relu.ops.relu(torch.empty(3), torch.empty(3))
except NotImplementedError:
    print("no CPU kernel, as expected")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no CPU kernel" in done.stdout


def test_a_built_variant_is_stale_after_a_change_of_sources_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_build, "PACKAGES", tmp_path)
    project, variant = tmp_path / "relu", tmp_path / "relu" / "build" / "torch-cu"
    variant.mkdir(parents=True)
    (project / "build.toml").write_text('[torch]\nsrc = ["relu.cpp"]\n')
    for name, changed in (("build.toml", 1), ("relu.cpp", 1), ("CARD.md", 3)):
        (project / name).touch()
        os.utime(project / name, (changed, changed))
    (variant / "relu.so").touch()
    os.utime(variant / "relu.so", (2, 2))
    assert device_build._is_fresh(variant, "relu")
    os.utime(project / "relu.cpp", (3, 3))
    assert not device_build._is_fresh(variant, "relu")


def on_cpu(family: checks.Family, load_package: Callable[[str], ModuleType]) -> checks.Context:
    """What the checks of a family work with, for the CPU builds, which have the same ops."""
    packages = {name: load_package(name) for name in family.packages}
    is_activation = family is activation_checks.FAMILY
    ops = ("gelu", "gelu_fast", "silu_and_mul") if is_activation else family.ops
    return checks.Context(packages, ops, is_quick=True, device="cpu")


@pytest.mark.parametrize(
    ("family", "check"),
    [
        pytest.param(family, check, id=check.__name__)
        for family in registry.FAMILIES
        for check in family.on_any_device
    ],
)
def test_checks_hold_for_the_cpu_builds(
    family: checks.Family, check: checks.Check, load_package: Callable[[str], ModuleType]
) -> None:
    check(on_cpu(family, load_package))


def test_what_one_package_repeats_needs_no_other(load_package: Callable[[str], ModuleType]) -> None:
    packages = {"flash-attn2": load_package("flash-attn2")}
    ops = attention_checks.FAMILY.ops
    attention_checks.attention_repeats(checks.Context(packages, ops, is_quick=True, device="cpu"))


@pytest.mark.parametrize(
    "check",
    [
        *(activation_checks.numerics, activation_checks.layouts, activation_checks.backward),
        activation_checks.gelu_gradient,
    ],
)
def test_checks_notice_a_wrong_kernel(
    check: checks.Check,
    load_package: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One wrong element in the last column; the gradient wrong by 1 %.
    right = activation_checks.call
    context = on_cpu(activation_checks.FAMILY, load_package)

    def wrong(context: checks.Context, op: str, out: torch.Tensor, x: torch.Tensor) -> None:
        right(context, op, out, x)
        if out.numel() and out.shape[0] > 1:
            out[..., -1:].add_(2.0)

    class Ops:
        def __getattr__(self, name: str) -> Callable[..., None]:
            kernel = getattr(load_ops, name)

            def scaled(result: torch.Tensor, *others: torch.Tensor) -> None:
                kernel(result, *others)
                result.mul_(1.01)

            return scaled if name.endswith("_backward") else kernel

    load_ops = context.packages["activation"].ops
    monkeypatch.setattr(activation_checks, "call", wrong)
    monkeypatch.setattr(context.packages["activation"], "ops", Ops())
    with pytest.raises(AssertionError):
        check(context)


def test_a_check_is_named_once_and_op_chooses_families() -> None:
    names = [check.__name__ for family in registry.FAMILIES for check in family.checks]
    assert len(names) == len(set(names))
    assert set(registry.PACKAGES) >= {one.package for one in families.ALL}
    chosen = run("tests/gpu/run", "--list", "--op", "layer-norm").stdout
    names = ["norm_graphs", "layer_norm", "norm_gradients", "norm_dtypes", "fused_norm"]
    names += ["dropout_masks", "sanitizer"]
    assert [line.split()[0] for line in chosen.splitlines()] == names


@pytest.mark.parametrize(
    ("flags", "packages"),
    [
        (["--op", "relu"], ["relu"]),
        (["--op", "rms_norm"], ["rmsnorm"]),
        (["--check", "norm_gradients"], ["layer-norm"]),
        (["--op", "flash_attn2"], ["flash-attn2"]),
        (["--op", "attention_forward"], ["flash-attn2", "vllm-flash-attn3"]),
        (["--op", "relu", "--check", "sanitizer"], ["relu"]),
    ],
)
def test_only_packages_of_the_selected_checks_are_loaded(
    flags: list[str], packages: list[str]
) -> None:
    assert checks_driver.wanted_packages(checks_driver.parse(flags)) == packages


@pytest.mark.parametrize("flags", [["--op", "reul"], ["--op", "relu", "--check", "numerics"]])
def test_an_op_that_selects_no_check_fails_with_the_names(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        checks_driver.parse(flags)
    said = capsys.readouterr().err
    assert "layer-norm" in said
    assert "attention_forward" in said


def test_an_op_without_a_problem_fails_with_the_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family = families.of("relu")
    monkeypatch.setattr(type(family), "gpu_problems", lambda *_: iter(()))
    assert benchmark.main(["--list", "--op", "relu"]) == 2
    assert "expected one of activation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("capabilities", "arch", "compiled_for"),
    [
        (["8.0", "9.0", "12.0+PTX"], "90", ["90"]),
        (["8.0", "9.0a"], "90", ["90a"]),
        (["8.0", "9.0a"], "100", ["100"]),
        (["9.0a"], "100", ["90a"]),
        ([], "80", ["80"]),
    ],
)
def test_a_component_is_compiled_for_this_gpu_or_for_those_it_is_written_for(
    capabilities: list[str], arch: str, compiled_for: list[str]
) -> None:
    flags = [f"-gencode=arch=compute_{one},code=sm_{one}" for one in compiled_for]
    assert device_build.gencodes(capabilities, arch) == flags


LARGE_SHAPE = (16384, 8192)
MOVED = 2 * 2 * 16384 * 8192


def row(candidate: str, us: float, **fields: object) -> Row:
    setting = {"launch": "stream", "layout": "aligned"} | dict(fields.pop("setting", {}))  # type: ignore[call-overload]
    values = {"op": "gelu_fast", "dtype": "bfloat16", "shape": LARGE_SHAPE, "bytes": MOVED}
    return Row(**values | fields, candidate=candidate, setting=setting, us_median=us)


def missed(rows: list[Row], ceilings: dict[str, float] | None = None) -> list[str]:
    result = Result({}, ceilings or {}, rows)
    return [str(floor) for floor in floors.floors(result) if floor.verdict == MISSED]


def test_a_large_row_must_reach_its_share_of_the_copy() -> None:
    copy_gbps = 4300.0
    fast = MOVED / copy_gbps / 1e3 / 0.93
    assert missed([row("ours", fast, copy_gbps=copy_gbps)]) == []
    slow = MOVED / copy_gbps / 1e3 / 0.91
    assert "% of copy: 91.00 >= 92" in missed([row("ours", slow, copy_gbps=copy_gbps)])[0]
    assert missed([row("ours", slow, copy_gbps=copy_gbps, op="gelu")]) == []
    assert missed([row("ours", fast, copy_gbps=copy_gbps, dtype="float32")]) != []


def test_ours_must_keep_up_with_the_best_reference_but_not_with_copy_or_neg() -> None:
    others = [row("copy", 50.0), row("torch.neg", 50.0), row("torch.compile", 99.0)]
    assert missed([row("ours", 100.0), *others]) == []
    assert "against torch.compile" in missed([row("ours", 102.0), *others])[0]


def test_gelu_fast_must_be_three_times_composed_and_eight_times_when_large() -> None:
    large = [row("ours", 100.0), row("torch composed", 790.0)]
    assert "against torch composed: 7.90 >= 8" in missed(large)[0]
    small = {"shape": (8, 512), "bytes": 16384}
    assert missed([row("ours", 2.0, **small), row("torch composed", 6.1, **small)]) == []
    assert missed([row("ours", 2.0, **small), row("torch composed", 5.9, **small)]) != []


def test_small_rows_have_latency_floors_in_graphs_and_on_the_host() -> None:
    graph = {"shape": (8, 512), "bytes": 16384, "setting": {"launch": "graph"}}
    rows = [row("ours", 2.2, **graph), row("torch.neg", 2.1, **graph)]
    assert missed(rows, {"empty kernel, us": 1.6}) == []
    assert len(missed(rows, {"empty kernel, us": 1.4})) == 1
    for op, dtype in (("silu_and_mul", "bfloat16"), ("rms_norm", "bfloat16")):
        own = graph | {"op": op, "dtype": dtype}
        beside = [row("ours", 2.2, **own), row("torch.neg", 1.9, **own)]
        assert "over torch.neg's" in missed(beside, {"empty kernel, us": 1.6})[0]
    own = graph | {"op": "apply_rotary_transformers", "shape": (2, 3, 64)}
    beside = [row("ours", 2.2, **own), row("torch.neg", 1.9, **own)]
    assert "over torch.neg's" in missed(beside, {"empty kernel, us": 1.6})[0]


def test_calls_on_the_host_stand_beside_the_negation_that_is_called_alike() -> None:
    host = {"shape": (8, 512), "bytes": 16384, "setting": {"launch": "host"}}
    yardsticks = [row("torch.neg", 5.0, **host), row("torch.ops.aten.neg.out", 7.0, **host)]
    over_c = row("ours, C ABI", 5.9, **host)
    assert missed([row("ours", 8.3, **host), over_c, *yardsticks]) == []
    (slow,) = missed([row("ours", 8.5, **host), over_c, *yardsticks])
    assert "host time: ours over torch.ops.aten.neg.out: 1.21 <= 1.2" in slow
    (slow,) = missed([row("ours", 8.3, **host), replace(over_c, us_median=6.1), *yardsticks])
    assert "host time: ours, C ABI over torch.neg: 1.22 <= 1.2" in slow


def test_misaligned_rows_keep_sixty_percent_of_the_aligned_figure() -> None:
    shifted = {"setting": {"layout": "misaligned"}}
    assert missed([row("ours", 100.0), row("ours", 165.0, **shifted)]) == []
    assert len(missed([row("ours", 100.0), row("ours", 168.0, **shifted)])) == 1


def test_a_wrong_candidate_is_not_timed_and_an_absent_one_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(problem_worker, "DEVICE", "cpu")
    family = families.of("silu")
    problem = next(family.gpu_problems("silu", is_quick=True))
    given = problem_worker.sample(family, problem)

    def outcome(compute: Callable[[torch.Tensor, torch.Tensor], object] | None) -> Row:
        def bind(buffers: Buffers) -> Call:
            return lambda: compute(*buffers.outputs, *buffers.inputs)

        candidate = Candidate("ours", bind if compute else None, "not installed")
        return problem_worker.checked(candidate, family, problem, given)

    silu = torch.nn.functional.silu
    assert outcome(lambda out, x: silu(x)).status == "measured"
    assert outcome(lambda out, x: out.copy_(silu(x))).status == "measured"
    assert outcome(lambda out, x: silu(x) * 1.01).status == "FAIL"
    assert outcome(lambda out, x: None).status == "FAIL"
    assert (outcome(None).status, outcome(None).reason) == ("absent", "not installed")


def test_a_full_run_holds_every_op_large_small_misaligned_and_on_the_host() -> None:
    found = [problem for _, problem in benchmark.problems(["activation"], is_quick=False)]
    for op in families.of("silu").ops:
        own = [problem for problem in found if problem.op == op]
        large = [problem for problem in own if problem.bytes >= GPU_LARGE]
        assert {problem.dtype for problem in large} == set(checks.DTYPES)
        launches = [problem.setting["launch"] for problem in own if problem.bytes <= GPU_SMALL]
        assert "graph" in launches
        assert any(problem.setting["layout"] == "misaligned" for problem in own)
        assert "host" in launches


@pytest.mark.skipif(torch.cuda.is_available(), reason="only where no kernel can be loaded")
def test_every_check_of_the_gpu_command_is_described() -> None:
    lines = run("tests/gpu/run", "--list").stdout.splitlines()
    assert len(lines) >= 16
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
