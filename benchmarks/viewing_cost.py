# SPDX-License-Identifier: Apache-2.0
"""What watching costs: training steps a second with the viewer's page closed, open, and dragged around.

The trainer is the one that `ns-train img3d-splat` runs, on fox, without densification, so that all steps are alike. The
page is a process of its own (scripted_page.py) that draws nothing, so that what is measured is this end; stretches
begin when it has been shown something.

    python benchmarks/viewing_cost.py --gaussians 50000
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from kernels import describe_machine
from training_step import SIZES, fixed_run, start_with

from img3d_methods.splat.trainer import Img3dSplatTrainer
from img3d_methods.training.clock import TrainingClock

WARM_UP_STEPS = 100
MODES: dict[str, tuple[bool, bool]] = {
    "page open, it draws": (True, False),
    "page dragged, it draws": (True, True),
    "page open, trainer renders": (False, False),
    "page dragged, trainer renders": (False, True),
}
"""Whether the page draws, and whether its camera moves."""


class Watched(Img3dSplatTrainer):
    """Notes when each step ended."""

    ended: list[float]
    stop: threading.Event

    def _step(self, step: int, clock: TrainingClock) -> None:
        super()._step(step, clock)
        self.ended.append(time.perf_counter())
        self.stop_training = self.stop.is_set()

    def _after_train(self) -> None:
        """Nothing is saved or measured."""


@contextmanager
def page(port: int, draws: bool, moves: bool) -> Generator[None, None, None]:
    """A page is open and has something to show."""
    words = [str(port), "draws" if draws else "renders", "dragged" if moves else "still"]
    command = [sys.executable, str(Path(__file__).with_name("scripted_page.py")), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        if process.stdout.readline() != "shown\n":
            raise RuntimeError("The page was shown nothing.")
        yield
        process.stdin.close()


def steps_per_second(trainer: Watched, seconds: float) -> float:
    """Over the next so many seconds."""
    first, began = len(trainer.ended), time.perf_counter()
    time.sleep(seconds)
    return (len(trainer.ended) - first) / (time.perf_counter() - began)


def measure(trainer: Watched, port: int, seconds: float, rounds: int, modes: list[str]) -> None:
    """Print the table, each mode between two stretches without a page."""
    while len(trainer.ended) < WARM_UP_STEPS:
        time.sleep(0.1)
    slower: dict[str, list[float]] = {mode: [] for mode in modes}
    rates: dict[str, list[float]] = {mode: [] for mode in (*modes, "no page")}
    before = steps_per_second(trainer, seconds)
    for _, mode in itertools.product(range(rounds), modes):
        with page(port, *MODES[mode]):
            time.sleep(2)
            rate = steps_per_second(trainer, seconds)
        time.sleep(2)
        after = steps_per_second(trainer, seconds)
        slower[mode].append(2 * rate / (before + after))
        rates[mode].append(rate)
        rates["no page"] += [before, after]
        before = after
    print(f"\n{describe_machine()}.\n\n| page | steps/s | time taken from training |\n|---|---:|---:|")
    print(f"| none | {statistics.median(rates['no page']):.1f} | |")
    for mode in modes:
        taken = 1 - statistics.median(slower[mode])
        print(f"| {mode} | {statistics.median(rates[mode]):.1f} | {taken:.1%} |")


def main() -> None:
    """Train, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gaussians", type=int, default=50_000)
    parser.add_argument("--size", choices=SIZES, default="270x480")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each stretch that is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=MODES, default=list(MODES), help="what pages do")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        config = fixed_run(arguments.gaussians, arguments.size, Path(folder))
        config._target = Watched
        config.vis = "viewer"
        config.max_num_iterations = 1_000_000
        config.viewer.quit_on_train_completion = True
        config.get_base_dir().mkdir(parents=True)  # ns-train does
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.ended, trainer.stop = [], threading.Event()
        trainer.setup()
        start_with(trainer, arguments.gaussians)
        port = trainer.viewer_state.viser_server.get_port()

        def watch() -> None:
            try:
                measure(trainer, port, arguments.seconds, arguments.rounds, arguments.only)
            finally:
                trainer.stop.set()

        thread = threading.Thread(target=watch)
        thread.start()
        trainer.train()
        thread.join()


if __name__ == "__main__":
    main()
