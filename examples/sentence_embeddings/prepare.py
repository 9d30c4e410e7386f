# SPDX-License-Identifier: Apache-2.0
"""Write what the C++ program reads: token ids, and the Python reference it is compared with.

Sentences are one-line quotations of Debian's `fortunes` package, picked by fixed rules, so that
every run embeds the same text. Output folder:

  sentences.txt, queries.txt   one text per line
  inputs.safetensors           sentence_ids, query_ids: int64 [n, longest], zero padded
                               sentence_lengths, query_lengths: int64 [n], tokens of each row
                               sentence_reference, query_reference: float32 [n, hidden],
                               transformers' embeddings, mean pooled and normalised
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import BertModel

TOPICS = ("computers", "education", "food", "literature", "love", "pets", "science", "work")
QUERIES = (
    "Programs always contain one more bug.",
    "How to cook a good dinner",
    "A university professor giving a lecture",
    "The origin of the universe",
    "Falling in love is a kind of madness",
    "My cat ignores me",
)
UNKIND = re.compile(
    r"\b(sex|god|damn|hell|kill|dead|die|death|drunk|beer|drug|nazi|jew|black|gay|naked|virgin|"
    r"women|woman|wife|fat|ugly|stupid|idiot|fool|shit|ass|crap|suck|tart|bomb|gun|murder|suicide)\w*",
    re.IGNORECASE,
)
PLAIN = re.compile(r"[A-Z][A-Za-z0-9 ,;:'\-]+[.!?]")


def sentences_of(path: Path) -> Iterator[str]:
    """Clean English one-liners of one fortune file, in file order."""
    for fortune in path.read_text(encoding="utf-8", errors="replace").split("\n%\n"):
        lines = [line for line in fortune.splitlines() if not line.lstrip().startswith("--")]
        if len(lines) != 1:
            continue
        text = " ".join(lines[0].split())
        if 30 <= len(text) <= 160 and PLAIN.fullmatch(text) and not UNKIND.search(text):
            yield text


def pick_sentences(folder: Path, count: int) -> list[str]:
    """`count` sentences, the topics by turns; ends early when the files are exhausted."""
    by_topic = [list(dict.fromkeys(sentences_of(folder / topic))) for topic in TOPICS]
    picked: dict[str, None] = {}
    for index in range(max(map(len, by_topic))):
        for sentences in by_topic:
            if index < len(sentences) and len(picked) < count:
                picked.setdefault(sentences[index])
    return list(picked)


def encode(tokenizer: Tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [n, longest], padded with 0, and the length of each row [n]."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    return ids, torch.tensor([len(tokens) for tokens in rows])


@torch.inference_mode()
def embed(model: BertModel, ids: torch.Tensor, lengths: torch.Tensor, batch: int) -> torch.Tensor:
    """Mean-pooled, normalised embeddings [n, hidden]; rows are batched in the given order."""
    parts = []
    for begin in range(0, len(ids), batch):
        rows = lengths[begin : begin + batch]
        tokens = ids[begin : begin + batch, : int(rows.max())]
        mask = torch.arange(tokens.shape[1]) < rows[:, None]
        hidden = model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        weights = mask[..., None].float()
        mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        parts.append(torch.nn.functional.normalize(mean, p=2, dim=1))
    return torch.cat(parts)


def main() -> None:
    """Write the output folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of fetch_model.py")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--fortunes", type=Path, default=Path("/usr/share/games/fortunes"))
    parser.add_argument("--count", type=int, default=304, help="sentences")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    model = BertModel.from_pretrained(arguments.model, attn_implementation="sdpa")
    model.eval()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    sentences = sorted(pick_sentences(arguments.fortunes, arguments.count), key=len)
    for kind, texts in (("sentence", sentences), ("query", list(QUERIES))):
        ids, lengths = encode(tokenizer, texts)
        tensors[f"{kind}_ids"] = ids
        tensors[f"{kind}_lengths"] = lengths
        tensors[f"{kind}_reference"] = embed(model, ids, lengths, arguments.batch_size)
        name = {"sentence": "sentences.txt", "query": "queries.txt"}[kind]
        (arguments.out / name).write_text("".join(f"{text}\n" for text in texts))
    save_file(tensors, arguments.out / "inputs.safetensors")
    print(f"{len(sentences)} sentences, {len(QUERIES)} queries -> {arguments.out}")


if __name__ == "__main__":
    main()
