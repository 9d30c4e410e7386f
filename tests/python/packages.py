# SPDX-License-Identifier: Apache-2.0
"""Writes kernel packages to disk, with a digest computed here and not by the code under test."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NEVER_HASHED = {"metadata.json", "metadata.json.sigstore"}


def digest_of(variant: Path) -> dict[str, Any]:
    files = {
        path.relative_to(variant).as_posix(): base64.b64encode(
            hashlib.sha256(path.read_bytes()).digest()
        ).decode()
        for path in variant.rglob("*")
        if path.is_file() and path.relative_to(variant).as_posix() not in NEVER_HASHED
    }
    return {"algorithm": "sha256", "files": dict(sorted(files.items()))}


def write_package(
    repository: Path,
    files: Mapping[str, str | bytes],
    *,
    package_id: str,
    name: str = "toy",
    version: int = 1,
    variant: str = "torch-universal",
    backend: str = "cpu",
    archs: Sequence[str] = (),
    python_depends: Sequence[str] = (),
    **more: Any,
) -> Path:
    """One variant below repository/build; its directory."""
    directory = repository / "build" / variant
    for path, content in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    metadata: dict[str, Any] = {
        "name": name,
        "id": package_id,
        "version": version,
        "license": "Apache-2.0",
        "python-depends": list(python_depends),
        "kernel-depends": [],
        "backend": {"type": backend} | ({"archs": list(archs)} if archs else {}),
        "digest": digest_of(directory),
    }
    metadata |= {key.replace("_", "-"): value for key, value in more.items()}
    (directory / "metadata.json").write_text(json.dumps(metadata, indent=2))
    return directory
