"""python -m benchmarks                    lists what can be measured
python -m benchmarks steps              measures whole training steps, beside PyTorch if it is installed
python -m benchmarks steps --help       shows its settings
"""

import importlib
import sys

COMMANDS = {
    "steps": "whole training steps: time, share of the machine's peak, memory, ratio to PyTorch",
    "memory": "the same steps: only the most memory they hold, ratio to PyTorch",
    "scaling": "how a step's time grows with batch, side and width: exponents, pictures; with --ranks: with processes",
    "ops": "single ops, forward and backward: time, GFLOP/s or GB/s, ratio to PyTorch",
    "losses": "each loss as its batch grows: time, memory, ratio to PyTorch",
}


def overview() -> str:
    lines = ["usage: python -m benchmarks COMMAND [--help] [settings]", ""]
    return "\n".join([*lines, *(f"  {name:12}{summary}" for name, summary in COMMANDS.items())])


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    name, *rest = arguments
    if name not in COMMANDS:
        sys.exit(f"error: there is no benchmark {name!r}; choose one of: {', '.join(COMMANDS)}")
    try:
        importlib.import_module(f"benchmarks.{name}").main(rest)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
