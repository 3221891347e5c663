"""Print docs/errors.md from the table in edgesdk.error_codes: `python docs/render_errors.py > docs/errors.md`."""

from __future__ import annotations

from edgesdk.errors import CODES, FAMILIES

HEAD = """# Errors

Rendered by `docs/render_errors.py` from `edgesdk/error_codes.py`. Every error is printed once, as what is wrong, its
code, and what to do; with `--json` as one object `{"error": {"code", "message", "hint"}}` on standard error.

| exit code | family | meaning |
| --- | --- | --- |
| 0 | | done |
| 1 | | an error of ours: please report it with the traceback |
"""
TAIL = """| 130 | | interrupted |
| 141 | | the reader of the output went away |
"""


def main() -> None:
    print(HEAD, end="")
    for name, family in sorted(FAMILIES.items(), key=lambda item: item[1].exit_code):
        print(f"| {family.exit_code} | `{name}` | {(family.__doc__ or '').strip().splitlines()[0]} |")
    print(TAIL, end="")
    for name, family in sorted(FAMILIES.items(), key=lambda item: item[1].exit_code):
        print(f"\n## {name} (exit {family.exit_code})\n\n| code | cause | cure |\n| --- | --- | --- |")
        for code, info in sorted(CODES.items()):
            if info.family == name:
                print(f"| `{code}` | {info.cause} | {info.cure} |")


if __name__ == "__main__":
    main()
