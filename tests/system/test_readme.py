# SPDX-License-Identifier: Apache-2.0
"""The commands of the README, as they stand there."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT

REPO = "kernels-test/scale-by"
URL = re.compile(r"http://127\.0\.0\.1:\d+")
WAIT_SECONDS = 20


def section(title: str) -> list[str]:
    """The code blocks of one section of the README."""
    text = (ROOT / "README.md").read_text()
    body = text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```\w+\n(.*?)```", body, re.DOTALL)


def test_the_command_line_of_the_readme_runs(tmp_path: Path) -> None:
    commands, policy = section("Command line")
    serve, *rest = commands.splitlines(keepends=True)
    project = tmp_path / "my-kernel"
    shutil.copytree(ROOT / "tests/fixtures/projects/scale-by", project)
    description = (project / "build.toml").read_text()
    description = description.replace('"scale-by"', '"my-kernel"')
    (project / "build.toml").write_text(description.replace(REPO, "my-org/my-kernel"))
    (project / "torch-ext/scale_by").rename(project / "torch-ext/my_kernel")
    # A torch built with CUDA asks for the CUDA variant, on a machine without a GPU too; this one
    # takes the place of what `kernelhub` detects.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "KERNELS"))
    } | {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "KERNELHUB_TORCH_VERSION": "2.11",
        "PATH": os.pathsep.join(
            [
                str(Path(os.environ["KERNELHUB_CLI"]).parent),
                str(Path(sys.executable).parent),
                os.environ["PATH"],
            ]
        ),
    }
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        environment.pop(name, None)
    log = tmp_path / "serve.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            ["bash", "-c", "exec " + serve.split("&")[0]],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := URL.search(log.read_text())):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        port = found.group().rsplit(":", 1)[1]
        trust = tmp_path / ".config/kernelhub/trust.toml"
        trust.parent.mkdir(parents=True)
        trust.write_text(policy.replace("PORT", port))
        trust.chmod(0o600)
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "".join(rest).replace("PORT", port)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=WAIT_SECONDS) == 0
    assert result.returncode == 0, result.stdout + result.stderr
