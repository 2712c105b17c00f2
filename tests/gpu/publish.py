"""Write what a GPU check found into tests/benchmarks/gpu.json, and its tables into README and docs.

    python -m tests.gpu.publish gpu-check [ANOTHER ...]

Several folders are joined: of a step that ran in more than one of them, the last counts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.benchmarks import tables
from tests.gpu.findings import read_findings

REPORT = Path(tables.__file__).with_name("gpu.json")
KINDS = ("arm", "parity", "attention", "seconds_of", "adapters", "options", "command")
"""Keys of findings that are listed, one for each kernel, command or arm."""
FACTS = ("card", "versions", "python", "cpus", "matmul_tflops", "layer_tflops", "copy_tb_per_s", "nf4_error", "auto",
         "preflight_peak_gb", "weights_gb", "run", "run_7b", "demo")  # fmt: skip
LEFT_OUT = ("step", "at", "said", "all_seconds", "sha256", "losses")


def report_of(folders: list[Path]) -> dict[str, Any]:
    """Return the findings of the check by kind."""
    steps: dict[object, list[dict[str, object]]] = {}
    for folder in folders:
        try:
            found = read_findings(folder)
        except OSError as problem:
            raise SystemExit(f"no results of a check: {problem}") from None
        steps |= {step: [line for line in found if line["step"] == step] for step in {line["step"] for line in found}}
    if any(line.get("rehearse") for lines in steps.values() for line in lines):
        raise SystemExit("a rehearsal is not published: its figures are those of a CPU")
    failed = [name for lines in steps.values() for line in lines if (name := line.get("ended")) and not line["ok"]]
    report: dict[str, Any] = {"not to the end": sorted(map(str, failed))} if failed else {}
    for line in (line for step in sorted(steps, key=str) for line in steps[step]):
        report |= {fact: line[fact] for fact in FACTS if fact in line}
        for kind in KINDS:
            if kind in line and "part" not in line:
                kept = {key: value for key, value in line.items() if key not in LEFT_OUT}
                report.setdefault(kind, []).append(kept)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    report = report_of(parser.parse_args().folders)
    REPORT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    tables.put_gpu(report)


if __name__ == "__main__":
    main()
