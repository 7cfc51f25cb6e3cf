"""`make setup`: a virtual environment with PyTorch's CPU build, the pinned packages beside this file, and this package.

The pinned list is complete, so pip resolves nothing (`--no-deps`) and finds no conflicts: SGLang's own dependency list
wants about 10 GB of CUDA packages that a CPU does not need.
"""

import argparse
import re
import subprocess
import sys
import venv
from pathlib import Path

LOCK = Path(__file__).with_name("cpu.txt")
# PyPI's PyTorch for Linux is the one with CUDA; the index that PyTorch's installation guide names has the CPU build.
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
WITH_CUDA = """\
PyTorch's CPU build is not in reach: neither pip's own sources nor {index}
offer {torch}+cpu for this Python and machine.
Installing the build with CUDA instead. It runs on a CPU too, but is large: 527 MB, with its CUDA packages 2.7 GB.
To avoid that, stop this and name another index: make setup TORCH_INDEX=URL"""

WHEEL = re.compile(r"\s*(?:Downloading|Using cached|Processing) (\S+\.whl)(?!\S)( \([\d.]+ .B\))?")


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit("Python 3.11 or later is needed: make setup PYTHON=python3.11")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the virtual environment; made if it is missing")
    parser.add_argument("--torch-index", default=TORCH_INDEX, help="asked for the CPU build if pip's sources lack it")
    options = parser.parse_args()

    print(f"Making {options.folder} ...", flush=True)
    venv.create(options.folder, with_pip=True)
    pip = Pip(options.folder)
    pins = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    install_torch(pip, next(pin for pin in pins if pin.startswith("torch==")), options.torch_index)
    pip.install(f"the other {len(pins) - 1} packages", "--no-deps", "-r", str(LOCK))
    pip.install("this package, editable", "--no-deps", "--editable", str(LOCK.parents[1]))
    print(f"Done. Next: make demo, or {options.folder}/bin/sfi-sglang --help")


class Pip:
    """pip of a virtual environment; what it says goes to `pip.log` in there."""

    def __init__(self, folder: Path) -> None:
        self.command = [str(folder / "bin" / "python"), "-m", "pip"]
        self.log = folder / "pip.log"
        self.log.write_text("")

    def offers(self, name: str, version: str, *options: str) -> bool:
        found = subprocess.run([*self.command, "index", "versions", name, *options], capture_output=True, text=True)
        return version in re.split(r"[\s,]+", found.stdout)

    def install(self, what: str, *arguments: str) -> None:
        """On a terminal, one changing line says what comes and how large it is."""
        print(f"Installing {what} ...", flush=True)
        command = [*self.command, "install", "--progress-bar", "off", *arguments]
        wheels, said = 0, []
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                said.append(line)
                if wheel := WHEEL.match(line):
                    wheels += 1
                    status(f"{wheels:3}  {Path(wheel[1]).name.split('-')[0]}{wheel[2] or ''}")
                elif line.startswith("Installing collected"):
                    status("unpacking ...")
        status("")
        with self.log.open("a") as log:
            log.writelines(said)
        if process.returncode:
            errors = [line for line in said if line.startswith("ERROR")] or said[-20:]
            sys.exit(f"{''.join(errors)}pip could not install {what}; all that it said is in {self.log}")


def status(text: str) -> None:
    if sys.stdout.isatty():
        print(f"\r\033[K{text[:100]}", end="", flush=True)


def install_torch(pip: Pip, torch: str, index: str) -> None:
    name, version = torch.split("==")
    cpu = f"{version}+cpu"
    elsewhere = ["--index-url", index]
    if pip.offers(name, cpu):
        pip.install(f"PyTorch {cpu}", "--no-deps", f"{name}=={cpu}")
    elif pip.offers(name, cpu, *elsewhere, "--timeout", "5", "--retries", "0"):
        pip.install(f"PyTorch {cpu} from {index}", "--no-deps", *elsewhere, f"{name}=={cpu}")
    else:
        print(WITH_CUDA.format(index=index, torch=torch), flush=True)
        pip.install(f"PyTorch {version} with CUDA", torch)


if __name__ == "__main__":
    main()
