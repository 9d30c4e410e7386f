# SPDX-License-Identifier: Apache-2.0
"""Turn results.json of the C++ program into one self-contained HTML page.

The page shows why each variant was chosen or not, how close the embeddings are to the Python
reference, times before and after as a plot, and the nearest sentences.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import os
import platform
import re
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --paper: #fbfaf7; --soft: #5d6675;
  --line: #d9d6cd; --good: #1a7f4b; --bad: #b3372f; --plain: #8a93a3; --kernel: #2f6fd0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --paper: #14171c; --soft: #9aa3b2; --line: #2c323c; --good: #58c28a;
    --bad: #ef7f77; --plain: #8a93a3; --kernel: #6fa4f2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { margin: .4rem 0; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: .86em ui-monospace, monospace; overflow-wrap: anywhere; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem; }
.pairs > div { border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; }
ol { margin: .4rem 0 0; padding-left: 1.2rem; }
"""
# Colours that stand in the SVG until they become the page's own, which follow light and dark.
PLACEHOLDERS = {"#010203": "var(--ink)", "#040506": "var(--plain)", "#070809": "var(--kernel)",
                "#0a0b0c": "var(--line)"}  # fmt: skip
INK, PLAIN, KERNEL, LINE = PLACEHOLDERS
BAR = 2e-6


def text(value: object) -> str:
    """Escaped for HTML."""
    return html.escape(str(value))


def table(head: list[str], rows: list[list[str]], numbers: set[int] = frozenset()) -> str:
    """Rows of ready HTML; the columns in `numbers` are right-aligned."""

    def cells(tag: str, row: list[str]) -> str:
        parts = []
        for index, cell in enumerate(row):
            kind = ' class="number"' if index in numbers else ""
            parts.append(f"<{tag}{kind}>{cell}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f'<div class="scroll"><table>{cells("th", head)}{body}</table></div>'


def packages_section(packages: list[dict[str, Any]]) -> str:
    """Variant trace of every package that was loaded."""
    parts = []
    for package in packages:
        rows = []
        for decision in package["trace"]:
            chosen = decision["variant"] == package["variant"]
            fits = "fits too, ranked lower" if decision["accepted"] else text(decision["reason"])
            verdict = '<span class="good">chosen</span>' if chosen else fits
            rows.append([f"<code>{text(decision['variant'])}</code>", verdict])
        parts.append(
            f"<h2>{text(package['repo'])} {text(package['version'])}</h2>"
            f'<p class="soft">commit <code>{text(package["commit"])}</code>; its '
            f"ops ({len(package['ops'])}) live in namespace "
            f"<code>{text(package['op_namespace'])}</code></p>"
            + table(["Variant", "Verdict"], rows)
        )
    return "".join(parts)


def agreement_section(agreement: dict[str, Any]) -> str:
    """Largest differences to the Python reference."""

    def row(title: str, value: float) -> list[str]:
        mark = "good" if value <= BAR else "bad"
        return [title, f'<span class="{mark}">{value:.2e}</span>']

    rows = [
        row("plain, to the Python reference", agreement["plain_to_reference"]),
        row("kernelized, to the Python reference", agreement["kernelized_to_reference"]),
        row("kernelized, to plain", agreement["kernelized_to_plain"]),
    ]
    equal = agreement["restored_bit_equal"]
    state = '<span class="good">bit-equal</span>' if equal else '<span class="bad">different</span>'
    rows.append(["un-kernelized, to plain", state])
    note = f"The bar is {BAR:.0e} in fp32; every embedding has norm 1."
    return (
        "<h2>Agreement</h2>"
        + table(["Embeddings", "Max abs difference"], rows, {1})
        + f'<p class="soft">{note}</p>'
    )


def plot(timings: list[dict[str, Any]]) -> str:
    """Every repeated time as a dot, medians as bars; inline SVG in the page's colours."""
    plt.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10})
    figure, axes = plt.subplots(1, len(timings), figsize=(3.1 * len(timings), 3.0))
    for axis, timing in zip(axes, timings, strict=True):
        for x, (key, colour) in enumerate((("plain_ms", PLAIN), ("kernelized_ms", KERNEL))):
            values = timing[key]
            axis.bar(x, statistics.median(values), width=0.62, color=colour, alpha=0.55)
            spots = [x + 0.22 * (i / max(len(values) - 1, 1) - 0.5) for i in range(len(values))]
            axis.plot(spots, values, "o", color=INK, markersize=3.5)
        axis.set_title(timing["what"], fontsize=10, color=INK)
        axis.set_xticks([0, 1], ["plain", "kernelized"], color=INK)
        axis.set_ylabel(f"ms per {timing['unit']}", color=INK)
        axis.set_ylim(bottom=0)
        axis.tick_params(colors=INK, length=0)
        axis.grid(axis="y", color=LINE, linewidth=0.8)
        axis.set_axisbelow(True)
        for side, spine in axis.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(LINE)
    figure.tight_layout()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # A presentation attribute cannot hold var(); a style can.
    for colour, variable in PLACEHOLDERS.items():
        svg = re.sub(f'(fill|stroke)="{colour}"', rf'style="\1: {variable}"', svg)
        svg = svg.replace(colour, variable)
    return svg


def timing_section(timings: list[dict[str, Any]]) -> str:
    """Table and plot of the times."""
    rows = []
    for timing in timings:
        plain, kernel = timing["plain_ms"], timing["kernelized_ms"]
        medians = [statistics.median(values) for values in (plain, kernel)]
        spreads = [
            (max(values) - min(values)) / middle * 100
            for values, middle in zip((plain, kernel), medians, strict=True)
        ]
        cells = [
            f"{m:.4g} ms (&plusmn;{s / 2:.0f} %)" for m, s in zip(medians, spreads, strict=True)
        ]
        rows.append([text(timing["what"]), *cells, f"{medians[1] / medians[0]:.3f}"])
    rounds = len(timings[0]["plain_ms"])
    return (
        "<h2>Time</h2>"
        + table(["Work", "Plain", "Kernelized", "Ratio"], rows, {1, 2, 3})
        + f"<figure>{plot(timings)}</figure>"
        + f'<p class="soft">Medians of {rounds} rounds in which the two models take turns; '
        "in brackets half the distance of the extremes, dots are the single rounds.</p>"
    )


def neighbours_section(neighbours: list[dict[str, Any]]) -> str:
    """Closest sentences by the kernelized model."""
    parts = []
    for item in neighbours:
        lines = "".join(
            f'<li>{text(sentence)} <span class="soft">{cosine:.3f}</span></li>'
            for sentence, cosine in zip(item["sentences"], item["cosines"], strict=True)
        )
        parts.append(f"<div><strong>{text(item['query'])}</strong><ol>{lines}</ol></div>")
    return f'<h2>Nearest sentences</h2><div class="pairs">{"".join(parts)}</div>'


def layers_section(layers: list[dict[str, Any]]) -> str:
    """How many layers each package serves."""
    counts: dict[tuple[str, str], int] = {}
    for layer in layers:
        key = (layer["layer_name"], layer["source"] if layer["swapped"] else layer["reason"])
        counts[key] = counts.get(key, 0) + 1
    rows = [[text(name), str(count), text(where)] for (name, where), count in counts.items()]
    return "<h2>Swapped layers</h2>" + table(["Layer", "Modules", "Served by"], rows, {1})


def clients_section(python: dict[str, Any] | None) -> str:
    """The same package from Python, when the demo measured it."""
    if python is None:
        return ""
    rows = [
        [
            f"<code>{text(facts['client'])} {text(facts['version'])}</code>",
            f"{facts['max_abs_to_eager']:.1e}",
            f"{facts['import_s'] * 1e3:.0f} ms",
            f"{facts['get_kernel_s'] * 1e3:.0f} ms",
        ]
        for facts in python["clients"]
    ]
    equal = "bit-equal" if python["bit_equal"] else "different"
    head = ["Client", "gelu_fast, max abs to eager", "import", "get_kernel"]
    return (
        "<h2>The same package from Python</h2>"
        + table(head, rows, {1, 2, 3})
        + f"<p>The values of the two clients are {equal}.</p>"
    )


def machine() -> str:
    """Processor, cores and system in words."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} logical cores, {platform.system()} {platform.machine()}"


def page(results: dict[str, Any]) -> str:
    """The whole document."""
    intro = (
        f"{results['sentences']} English sentences in batches of {results['batch_size']}, embedded "
        "by a C++ program without Python in its process. Its GELU and LayerNorm layers were "
        "replaced by kernels fetched from a hub, and put back."
    )
    torch = f"torch {results['torch_version']}, torch threads: {results['threads']}"
    where = f"{machine()}; {torch}, fp32, CPU."
    sections = [
        agreement_section(results["agreement"]),
        timing_section(results["timings"]),
        layers_section(results["layers"]),
        packages_section(results["packages"]),
        neighbours_section(results["neighbours"]),
        clients_section(results.get("python_clients")),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Sentence embeddings with kernels from a hub</title><style>{STYLE}</style></head>"
        f"<body><h1>Sentence embeddings with kernels from a hub</h1><p>{text(intro)}</p>"
        f'<p class="soft">Measured on {text(where)}</p>{"".join(sections)}</body></html>\n'
    )


def main() -> None:
    """Read results, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="results.json of sentence_embeddings")
    parser.add_argument("--out", type=Path, required=True, help="HTML file to write")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text())
    arguments.out.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
