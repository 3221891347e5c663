"""Print docs/lint.md from the rules themselves: `python docs/render_lint.py > docs/lint.md`.

The words and the benchmark's output beside them are in this file and in `docs/lint-agreement.md`.
"""

from __future__ import annotations

from pathlib import Path

from edgesdk_converters.lint.rules import RULE_SETS
from edgesdk_converters.lint.rules.rule import GraphRule, Rule, RuleSet

HEAD = """# Target lint

`edge lint MODEL --target T` says in about a second, before anything is converted, which operators of a model will not
run on a target's accelerator, which constraint each breaks, and the rewrite that cures it. It imports no TensorFlow and
runs no vendor's tool.

```
edge lint model.tflite --target ethos-u55-128
edge lint model.onnx --target jetson-orin-gpu --fail-on-fallback 0.05 --by macs
edge lint model.keras --target rk3588 --contract contract.toml --json
edge lint model.onnx --target qualcomm-htp --recipe mixed.toml --contract contract.toml
edge lint model.tflite --target ethos-u55-128 --target ethos-u85-256 --fail-on-fallback 0.1
```

| | |
| --- | --- |
| model | `.tflite` or `.onnx`; a `.keras`, `.h5`, SavedModel or `.pt2` is exported first and needs `--contract` |
| `--contract` | the contract's TOML file: what is exported, and a `.onnx` with open sizes, gets the sizes it fixes |
| `--target` | may be repeated: a report for each, the exit status of the worst, one error that names all that failed |
| `--recipe R` | lint what this recipe of `edge convert` makes (a name or `my.toml`); needs `--contract` and seconds |
| `--fail-on-fallback S` | exit 6 (`fallback-share`) if more than the share S is beside the accelerator |
| `--by` | share of `macs` (default; of a model without any, its operators) or of `ops` |
| `--json` | one object: `findings`, `ops`, `ops_off`, `macs`, `macs_off`, `refused`, `assumed`, `notes`, `share_off` |
| `--json`, several targets | an array of such objects in the order given; each names its `target` |

Below the findings stand notes: the rules are a forecast and where they come from, what the target's profile says of
itself (the first sentence; whole in `edge targets show` and with `--json`), and that a file is quantized already, which
`edge convert` does not take as a source.

Each finding is one of

- **refused**: the compiler or runtime takes no file with it; the whole model is off, and the exit status is 6;
- **fallback**: the operator runs on the CPU beside the accelerator, or not at all where there is no such CPU;
- **slow**: it runs, and could be faster or simpler. It counts in no share.

The open batch of a float ONNX model is linted as 1, and other open sizes as the contract's where it is given, as
`edge convert` fixes them before a vendor's tool gets the file. What it settles for compilers is settled here too: for
Ethos-U and Rockchip sizes that are computed on the way are folded, for all of them softmaxes that were written out,
reciprocals of roots, recurrent layers and the operator set.
A float model for an integer-only target is linted as full int8 quantization leaves it, and an ONNX model for Ethos-U as
the TFLite that converters make of it; all of this is said at the top of the report (`assumed`). Operators that
litert-quantizer does not know (ABS, MINIMUM, REDUCE_MAX, SQUARE, LEAKY_RELU and more) stay float then, between a
DEQUANTIZE and a QUANTIZE: the lint of the float file counts them, and a test holds its table against the tool's files.
Norms that were written out, RMS and instance norms, roots, squares, divisions by a constant and biases of an ONNX file
are judged as what onnx2tf and TensorFlow's converter make of them (RSQRT and MUL for a division by a root). PADs,
RESHAPEs and TRANSPOSEs that converters add or leave out are not all foreseen; --recipe counts them.
With `--recipe` none of that is assumed: the steps of `edge convert` make that recipe's file (`float_layers` and 16-bit
activations too), with ranges of made-up inputs, as values of scales hardly decide where an operator runs. A recipe that
the target does not take, or a layer that is not there, is refused as there. A tool that quantizes by itself (that of
Rockchip) gets the float file, which is then what is linted. ONNX for Ethos-U goes through onnx2tf (9 s for the wearable
model, once it is installed).
Multiply-accumulates count convolutions, matrix products and recurrent layers; an open dimension counts as 1.

What is inside an operator (the body of a WHILE, Loop or Scan, the branches of an IF, what a CALL calls) is off wherever
that operator is, in operators and multiply-accumulates; one finding on the operator says how many are inside. A loop's
body is counted once, as the number of rounds is not in the file: with a loop that is off, the share by `macs` is a
lower bound.

`edge convert` runs the same lint before a vendor's tool gets a file: `--fail-on-fallback` refuses there, the report of
each variant has it under `lint`. From Python: `edgesdk_converters.lint.read.read_graph(path)` and
`edgesdk_converters.lint.check.check(graph, profile)`.

"""
TAIL = """
## What it does not know

Rules of Vela that depend on a board's memory are left to Vela (`memory-too-small`). Which operators Rockchip's and
Qualcomm's compilers fuse, split or move for speed is not predicted. Whether an ONNX exporter or converter will rewrite
an operator is guessed by name only. TensorRT's own plugins are not counted as operators.
"""
AGREEMENT = Path(__file__).parent / "lint-agreement.md"


def main() -> None:
    print(HEAD, end="")
    print(AGREEMENT.read_text(), end="")
    print("\n## Rules\n")
    for rules in RULE_SETS:
        _print(rules)
    print(TAIL, end="")


def _print(rules: RuleSet) -> None:
    if rules.name == "Ethos-U65":
        print("### Ethos-U65\n\nThe rules of Ethos-U55.\n")
        return
    print(f"### {rules.name}\n\nReads {rules.format.upper()}. Source: {rules.source}.\n")
    if rules.ops is not None:
        print("Operators: " + ", ".join(sorted(rules.ops)) + ".\n")
    elif rules.rewrites:
        print("All operators but: " + ", ".join(sorted(rules.rewrites)) + ".\n")
    print("| rule | operators | must hold | beyond it | why | do this |\n| --- | --- | --- | --- | --- | --- |")
    for rule in (*rules.graph_rules, *rules.rules, *rules.last):
        cells = (f"`{rule.name}`", _ops(rule), rule.limit, rule.effect, rule.why, rule.rewrite)
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    print()


def _ops(rule: Rule | GraphRule) -> str:
    if isinstance(rule, GraphRule):
        return "the model"
    if rule.ops:
        return ", ".join(sorted(rule.ops))
    return "all but " + ", ".join(sorted(rule.but)) if rule.but else "all"


if __name__ == "__main__":
    main()
