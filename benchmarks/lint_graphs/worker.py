"""Runs in Vela's environment: compiles many files in one process and writes one JSON line for each.

It imports nothing of ours. A file that takes the process down leaves no line; the caller goes on after it.
"""

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def compile_one(main: Callable[[list[str]], object], source: Path, out: Path, accelerator: str) -> dict[str, object]:
    words = io.StringIO()
    started = time.monotonic()
    try:
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            status = main([str(source), "--accelerator-config", accelerator, "--output-dir", str(out)])
    except SystemExit as error:
        status = error.code
    except BaseException as error:  # noqa: BLE001 - whatever the compiler raises is its answer
        status = f"{type(error).__name__}: {error}"
    made = out / f"{source.stem}_vela.tflite"
    return {
        "file": source.name,
        "ok": status in {0, None} and made.is_file(),
        "error": "" if status in {0, None} else str(status)[-400:],
        "words": words.getvalue()[-2000:],
        "seconds": round(time.monotonic() - started, 3),
    }


def main() -> None:
    folder, out, accelerator, log = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    from ethosu.vela.vela import main as vela  # noqa: PLC0415 - only in Vela's environment

    done = {json.loads(line)["file"] for line in log.read_text().splitlines()} if log.exists() else set()
    with log.open("a") as answers:
        for source in sorted(folder.glob("*.tflite")):
            if source.name not in done:
                (out / "current").write_text(source.name)
                answers.write(json.dumps(compile_one(vela, source, out, accelerator)) + "\n")
                answers.flush()


main()
