# SPDX-License-Identifier: Apache-2.0
"""A hub of its own for a test: `kernelhub serve` as a process, its store in a folder."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

STARTUP_SECONDS = 20


@dataclass
class Hub:
    url: str
    token: str
    access_log: Path
    process: subprocess.Popen[bytes]

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.url, token=self.token)

    def publish(self, repo_id: str, repository: Path, branch: str = "v1") -> str:
        """Upload build/ of a repository to a branch with the real client; the commit."""
        api = self.api
        api.create_repo(repo_id, repo_type="kernel", exist_ok=True)
        if branch != "main":
            api.create_branch(repo_id, branch=branch, repo_type="kernel", exist_ok=True)
        info = api.upload_folder(
            repo_id=repo_id, folder_path=repository, repo_type="kernel", revision=branch
        )
        return info.oid

    def requests(self) -> list[tuple[str, str]]:
        """Method and path of every request so far."""
        lines = self.access_log.read_text().splitlines() if self.access_log.exists() else []
        entries = [json.loads(line) for line in lines]
        return [(entry["method"], entry["path"]) for entry in entries]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=STARTUP_SECONDS)


def start_hub(folder: Path, trust_org: str) -> Hub:
    folder.mkdir(parents=True, exist_ok=True)
    url_file = folder / "url"
    access_log = folder / "access.jsonl"
    log = (folder / "serve.log").open("wb")
    process = subprocess.Popen(
        [
            os.environ["KERNELHUB_CLI"],
            "serve",
            *("--store", str(folder / "store")),
            *("--trust-org", trust_org),
            *("--access-log", str(access_log)),
            *("--url-file", str(url_file)),
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + STARTUP_SECONDS
    while not url_file.exists() or not url_file.read_text().strip():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"no hub: {(folder / 'serve.log').read_text()}")
        time.sleep(0.02)
    token = (folder / "store" / "admin-token").read_text().strip()
    return Hub(url_file.read_text().strip(), token, access_log, process)
