# SPDX-License-Identifier: Apache-2.0
"""The main job from end to end: build kernels, serve them, speed up a real model with them.

Everything the demo writes lies below <build dir>/demo; the built variants lie where `kernelhub
build` puts them, in each package's build/ folder. A second run reuses all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from stage import stage_activation_v2

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "kernels-community"
EXAMPLE = ROOT / "examples" / "sentence_embeddings"
ACTIVATION = "kernels-community/activation"
LAYER_NORM = "kernels-community/layer-norm"
MAX_DIFFERENCE = 2e-6  # max abs of fp32 embeddings of norm 1
BOLD, DIM, RESET = ("\033[1m", "\033[2m", "\033[0m")
if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
    BOLD = DIM = RESET = ""


class Demo:
    """Folders, environment and the numbered steps."""

    def __init__(self, build: Path) -> None:
        """`build`: CMake build folder with bin/kernelhub."""
        self.build = build.resolve()
        self.cli = self.build / "bin" / "kernelhub"
        self.work = self.build / "demo"
        self.work.mkdir(parents=True, exist_ok=True)
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HF_", "KERNELHUB_TRUST", "LOCAL_KERNELS", "KERNELS_CACHE"))
        }
        self.environment |= {
            "HF_HOME": str(self.work / "hf"),
            "XDG_STATE_HOME": str(self.work / "state"),
            "KERNELHUB_TRUST_FILE": str(self.work / "trust.toml"),
            "PYTHONPATH": str(self.build / "python"),
        }
        self.began = time.monotonic()
        self.number = 0

    def step(self, title: str) -> None:
        """Headline of the next step."""
        self.number += 1
        elapsed = time.monotonic() - self.began
        print(f"\n{BOLD}{self.number}. {title}{RESET} {DIM}({elapsed:.0f} s){RESET}", flush=True)

    def run(self, *command: str | Path, **extra: str) -> None:
        """Run a command in the demo's environment, its output on this terminal."""
        shown = " ".join(str(part).replace(f"{ROOT}/", "") for part in command)
        print(f"{DIM}$ {shown}{RESET}", flush=True)
        done = subprocess.run([str(part) for part in command], env=self.environment | extra)
        if done.returncode != 0:
            raise SystemExit(f"demo: the command above ended with {done.returncode}")

    def can_build_cuda(self, folder: Path) -> bool:
        """Whether this machine has the tools for the CUDA variants; says so when not."""
        if shutil.which("nvcc") is None:
            print("no nvcc on PATH: CPU variants only")
            return False
        plan = [
            self.cli,
            "build",
            folder,
            "--backend",
            "cuda",
            "--dry-run",
            "--python",
            sys.executable,
        ]
        done = subprocess.run([str(part) for part in plan], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"CPU variants only, CUDA cannot be built here: {done.stderr.strip()}")
        return done.returncode == 0

    def build_kernels(self) -> list[tuple[Path, str]]:
        """Both versions of activation and layer-norm; (folder, repository) of each."""
        second = stage_activation_v2(KERNELS, self.work / "activation_v2")
        has_nvcc = self.can_build_cuda(KERNELS / "activation")
        builds = [
            (KERNELS / "activation", ACTIVATION, ("cpu", "cuda") if has_nvcc else ("cpu",)),
            (second, ACTIVATION, ("cpu",)),
            (KERNELS / "layer-norm", LAYER_NORM, ("cpu",)),
        ]
        for folder, _, backends in builds:
            for backend in backends:
                self.run(
                    self.cli, "build", folder, "--backend", backend, "--python", sys.executable
                )
        return [(folder, repo) for folder, repo, _ in builds]

    @contextlib.contextmanager
    def hub(self) -> Iterator[str]:
        """`kernelhub serve` on a free port of loopback; yields its URL."""
        url_file = self.work / "url"
        url_file.unlink(missing_ok=True)
        store = self.work / "store"
        command = [
            self.cli,
            "serve",
            "--store",
            store,
            "--trust-org",
            "kernels-community",
            "--url-file",
            url_file,
            "--access-log",
            self.work / "access.jsonl",
        ]
        with (self.work / "serve.log").open("w") as log:
            server = subprocess.Popen(
                [str(part) for part in command], env=self.environment, stdout=log, stderr=log
            )
        try:
            deadline = time.monotonic() + 20
            while not url_file.exists() or not url_file.read_text().strip():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(
                        f"demo: the hub did not start:\n{(self.work / 'serve.log').read_text()}"
                    )
                time.sleep(0.02)
            yield url_file.read_text().strip()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=40)

    def publish(self, url: str, packages: list[tuple[Path, str]]) -> None:
        """Upload every package; write the policy that makes this hub's publisher flag count."""
        self.environment["HF_ENDPOINT"] = url
        policy = self.work / "trust.toml"
        policy.write_text(f'# Publisher flags of this hub count.\nendpoints = ["{url}"]\n')
        policy.chmod(0o600)
        token = (self.work / "store" / "admin-token").read_text().strip()
        for folder, repo in packages:
            self.run(self.cli, "upload", folder, "--repo-id", repo, HF_TOKEN=token)
        print(f"policy {policy.relative_to(self.build)}: {policy.read_text().splitlines()[-1]}")

    def embed(self) -> Path:
        """The C++ program: embeds, kernelizes, embeds again; returns its results file."""
        model, inputs, results = (self.work / n for n in ("model", "inputs", "results.json"))
        self.run(sys.executable, EXAMPLE / "fetch_model.py", model)
        if not (inputs / "inputs.safetensors").exists():
            self.run(sys.executable, EXAMPLE / "prepare.py", "--model", model, "--out", inputs)
        self.run(
            self.build / "bin" / "sentence_embeddings",
            "--model",
            model,
            "--inputs",
            inputs,
            "--results",
            results,
        )
        agreement = json.loads(results.read_text())["agreement"]
        worst = max(agreement["plain_to_reference"], agreement["kernelized_to_reference"])
        if not worst <= MAX_DIFFERENCE or not agreement["restored_bit_equal"]:
            raise SystemExit(f"demo: embeddings do not agree with the reference: {agreement}")
        return results

    def python_clients(self) -> Path:
        """The same package from Python, by ours and by the unmodified `kernels` client."""
        out = self.work / "python.json"
        # Bytecode is left in the shared cache on purpose: that is what this client does.
        environment = {"PYTHONDONTWRITEBYTECODE": ""}
        self.run(
            sys.executable,
            ROOT / "examples" / "demo" / "python_clients.py",
            "--out",
            out,
            **environment,
        )
        return out

    def report(self, results: Path, python: Path) -> Path:
        """One HTML page."""
        merged = json.loads(results.read_text())
        merged["python_clients"] = json.loads(python.read_text())
        results.write_text(json.dumps(merged, indent=1))
        page = self.work / "report.html"
        self.run(sys.executable, EXAMPLE / "report.py", results, "--out", page)
        return page


def main() -> None:
    """Run every step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build-dir", type=Path, required=True, help="CMake build folder")
    demo = Demo(parser.parse_args().build_dir)
    demo.step("Build two versions of activation, and layer-norm")
    packages = demo.build_kernels()
    demo.step("Serve a hub on loopback and publish them")
    with demo.hub() as url:
        demo.publish(url, packages)
        demo.step("Embed sentences in C++, plain and with kernels from the hub")
        results = demo.embed()
        demo.step("Load the same package from Python")
        python = demo.python_clients()
        demo.step("Write the report")
        page = demo.report(results, python)
    print(f"\n{BOLD}done in {time.monotonic() - demo.began:.0f} s{RESET}")
    print(f"report: {page}")


if __name__ == "__main__":
    main()
