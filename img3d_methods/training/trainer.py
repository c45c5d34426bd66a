# SPDX-License-Identifier: Apache-2.0
"""Nerfstudio's trainer with runs that can be interrupted and resumed, and that survive a full disk.

`max_num_iterations` is the length of the whole run, resumed or not: learning rates, resolution and densification are
planned for it. (Upstream trains that many additional steps after resuming, with schedules that have ended.)
"""

from __future__ import annotations

import copy
import shlex
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.configs.base_config import LoggingConfig, MachineConfig, ViewerConfig
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils import writer
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.misc import step_check
from nerfstudio.utils.writer import EventName
from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from img3d_base.console import CONSOLE, print_line
from img3d_base.errors import InputError, counted, warn
from img3d_base.signals import TERMINATED, Terminated, sigterm_raises, status_of
from img3d_methods.compat import LOCALHOST, fail, local_unless_asked, silent_console, taken_port_message
from img3d_methods.training.checkpoint_files import checkpoint_path, checkpoint_steps, read_checkpoint, write_checkpoint
from img3d_methods.training.clock import TrainingClock, WorkPlan
from img3d_methods.training.closing_measurement import measure, time_limit
from img3d_methods.training.curve import CURVE_FILE, CurvePoint, read_curve, write_curve
from img3d_methods.training.event_writers import trouble_of_service
from img3d_methods.training.held_out_gap import gap_message, training_psnr
from img3d_methods.training.interrupts import InterruptRequest
from img3d_methods.training.memory import keep_freed_memory
from img3d_methods.training.pipeline import Img3dPipeline
from img3d_methods.training.progress_table import GAUSSIANS, TRAIN_PSNR, ProgressTableConfig
from img3d_methods.training.run_config import RunConfig, remove_empty


@dataclass
class Img3dTrainerConfig(RunConfig):
    """Training options; defaults depend on the device."""

    _target: type = field(default_factory=lambda: Img3dTrainer)
    max_num_iterations: int = 0
    """Number of steps of the whole run, also of a resumed one; all schedules stretch to it. 0: as set by
    --pipeline.model.preset."""
    machine: MachineConfig = field(
        default_factory=lambda: MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu")
    )
    """The GPU if there is one (upstream's default is always CUDA)."""
    logging: LoggingConfig = field(
        default_factory=lambda: LoggingConfig(steps_per_log=50, local_writer=ProgressTableConfig(), profiler="none")
    )
    """A line of progress every 50 steps, which is every one to three seconds on a CPU."""
    viewer: ViewerConfig = field(default_factory=lambda: ViewerConfig(websocket_host=LOCALHOST))
    """The viewer's server; by default it is reachable from this machine only."""
    steps_per_eval_batch: int = 0
    """Never, because batches of splat methods are whole images."""
    steps_per_eval_image: int = 500
    """Steps between renders of one held-out photo (with --vis tensorboard or wandb)."""
    steps_per_eval_all_images: int = 5_000
    """Steps between evaluations of all held-out photos (with --vis tensorboard or wandb); one is made at the end."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "viewer":
            local_unless_asked(value)
            replaced = "viewer" in self.__dict__  # ns-viewer does so right before it starts the server
            if replaced and (message := taken_port_message(value)):
                fail(message)
        super().__setattr__(name, value)


class Img3dTrainer(Trainer, ABC):
    """Trains one of our models; subclasses define the length of the run and the work of its steps."""

    config: Img3dTrainerConfig
    pipeline: Img3dPipeline  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, config: Img3dTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        with silent_console():
            super().__init__(config, local_rank, world_size)

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Builds everything; foreseeable errors end the program with one line and leave no empty run behind, and one
        that is continued as it was."""
        of_continued = self.config.as_yaml() if self.config.is_trained() else None
        self._set_run_length()
        self.curve: list[CurvePoint] = []
        try:
            if self.config.is_viewer_enabled() and (message := taken_port_message(self.config.viewer)):
                fail(message)
            try:
                with sigterm_raises():
                    super().setup(test_mode)
            except InputError as error:
                fail(str(error))
            except KeyboardInterrupt as interrupt:
                CONSOLE.print("Interrupted before training began.", style="bold yellow")
                raise SystemExit(status_of(interrupt)) from None
            except Exception as error:
                if message := trouble_of_service(error):
                    fail(message)
                raise
        except SystemExit:
            self._remove_empty_run()
            raise
        if of_continued is not None:
            self.config.write_config(of_continued)
        self.pipeline.steps_per_metrics = self.config.logging.steps_per_log
        action = "Training into" if self._has_steps() else "Writing the run, which is not trained, into"
        print_line(f"{action} {self.base_dir}")

    def _has_steps(self) -> bool:
        """Whether anything is trained. If not, the run is only saved, evaluated and shown."""
        return True

    def _set_run_length(self) -> None:
        """Use the preset's length if the user gave none."""
        if not self._has_steps():
            # Nerfstudio's writer divides by the logarithm of the number of steps, so there is one, which `train` skips.
            self.config.max_num_iterations = 1
            self.config.logging.local_writer.enable = False  # its table fails without a step
        self._length_is_presets = self._has_steps() and self.config.max_num_iterations == 0
        if self._length_is_presets:
            self.config.max_num_iterations = self._preset_steps()

    @abstractmethod
    def _preset_steps(self) -> int:
        """Number of steps of a run for which the user gave none."""

    def _downscale_at(self, step: int) -> int:
        """The factor by which images are downscaled at a step."""
        return 1

    def _full_size_step(self) -> int:
        """The first step at which images have their full size."""
        return 0

    def _num_gaussians(self) -> int:
        """The current number of Gaussians; 0 for models without."""
        return 0

    def _work_plan(self, pixels: int) -> WorkPlan:
        """The work of each step, for photos of `pixels` pixels at full size."""
        return WorkPlan(np.full(self.config.max_num_iterations, float(pixels)))

    def _prepare_cpu(self) -> None:
        """Prepares the process for training on a CPU."""
        keep_freed_memory()

    def setup_optimizers(self) -> Optimizers:
        """Creates the optimizers, whose schedules and learning rates suit the run's length."""
        optimizers = copy.deepcopy(dict(self.config.optimizers))
        for group in optimizers.values():
            optimizer, scheduler = group["optimizer"], group["scheduler"]
            if getattr(optimizer, "lr_for_passes", 0) > 0:
                photos = len(self.pipeline.datamanager.train_dataset)
                group["optimizer"] = optimizer.for_run(self.config.max_num_iterations / photos)
            if getattr(scheduler, "max_steps", None) == 0:
                scheduler.max_steps = self.config.max_num_iterations
        return Optimizers(optimizers, self.pipeline.get_param_groups())

    # ------------------------------------------------------------------------------------------------- the loop

    def train(self) -> None:
        """Trains up to `max_num_iterations`. Ctrl-C saves and exits with status 130, SIGTERM with 143."""
        datamanager, config = self.pipeline.datamanager, self.config
        datamanager.train_dataparser_outputs.save_dataparser_transform(self.base_dir / "dataparser_transforms.json")
        self.stop_training = False
        self.step = self._start_step - 1
        self._seconds_beside_training = 0.0
        self._seconds = self.curve[-1].seconds if self.curve else 0.0
        clock = TrainingClock(self._work_plan(datamanager.get_train_rays_per_batch()))
        model: Any = self.pipeline.model  # each of our models has a view for the viewer's page
        model.live_view.progress.begin(clock)
        with InterruptRequest() as interrupt:
            try:
                self._init_viewer_state()
                if self.device == "cpu" and self._has_steps():
                    self._prepare_cpu()
                for step in range(self._start_step, config.max_num_iterations):
                    while self.training_state == "paused" and not (self.stop_training or interrupt.received):
                        time.sleep(0.01)
                    if self.stop_training or interrupt.received:
                        break
                    if self._has_steps():
                        self._step(step, clock)
                    else:
                        self.step = step
            except KeyboardInterrupt as second:
                CONSOLE.print("Interrupted again: stopped without saving.", style="bold yellow")
                raise SystemExit(status_of(second)) from None
            if interrupt.received:
                self._leave_interrupted(interrupt.exit_status)
        with sigterm_raises():
            self._after_train()

    def _step(self, step: int, clock: TrainingClock) -> None:
        """Runs one iteration, and what is due after it: logging, evaluation, saving."""
        config, began = self.config, time.perf_counter()
        with self.train_lock:
            if not self.pipeline.model.training:  # `train()` visits all modules
                self.pipeline.train()
            for callback in self.callbacks:
                callback.run_callback_at_location(step, location=TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
            loss, loss_dict, metrics_dict = self.train_iteration(step)
            for callback in self.callbacks:
                callback.run_callback_at_location(step, location=TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        self.step = step
        seconds = time.perf_counter() - began
        clock.record(step, seconds + self._seconds_beside_training, self._num_gaussians())
        self._seconds += seconds + self._seconds_beside_training
        writer.put_time(EventName.ITER_TRAIN_TIME, seconds, step, avg_over_steps=True)
        pixels = self.pipeline.datamanager.get_train_rays_per_batch() / self._downscale_at(step) ** 2
        writer.put_time(EventName.TRAIN_RAYS_PER_SEC, pixels / max(seconds, 1e-3), step, avg_over_steps=True)
        self._update_viewer_state(step)

        if step_check(step, config.logging.steps_per_log, run_at_zero=True):
            writer.put_scalar(EventName.ETA, clock.remaining(step), step)
            num_gaussians = self._num_gaussians()
            if num_gaussians:
                writer.put_scalar(GAUSSIANS, num_gaussians, step)
            if "psnr" in metrics_dict:
                psnr = float(metrics_dict["psnr"])
                writer.put_scalar(TRAIN_PSNR, psnr, step)
                self.curve.append(CurvePoint(step, self._seconds, float(loss.detach()), psnr, num_gaussians))
            writer.put_scalar("Train Loss", loss.detach(), step)
            writer.put_dict("Train Loss Dict", {name: value.detach() for name, value in loss_dict.items()}, step)
            writer.put_dict("Train Metrics Dict", metrics_dict, step)
            if torch.cuda.is_available():
                writer.put_scalar("GPU Memory (MB)", torch.cuda.max_memory_allocated() / 1024**2, step)
        if self.pipeline.datamanager.eval_dataset:
            with self.train_lock:
                self.eval_iteration(step)
        if step_check(step, config.steps_per_save) and (trouble := self._try_to_save(step)):
            warn(f"{trouble}; training goes on and tries again at the next save.")
        writer.write_out_storage()
        self._seconds_beside_training = time.perf_counter() - began - seconds

    def _leave_interrupted(self, exit_status: int) -> None:
        """Saves after Ctrl-C or SIGTERM, and ends the program."""
        if self.step < 0:
            CONSOLE.print("Interrupted before the first step.", style="bold yellow")
            raise SystemExit(exit_status)
        if trouble := self._try_to_save(self.step):
            fail(f"Interrupted after step {self.step}. {trouble}.")
        print_line(
            f"Interrupted: saved after step {self.step} of {self.config.max_num_iterations}. To continue, repeat the "
            f"command with --load-dir {shlex.quote(str(self.checkpoint_dir))}",
            "bold yellow",
        )
        raise SystemExit(exit_status)

    def _after_train(self) -> None:
        """Saves, evaluates the held-out photos, prints where everything is, and serves the viewer until Ctrl-C."""
        self.training_state = "completed"
        if trouble := self._try_to_save(self.step):
            older = checkpoint_steps(self.checkpoint_dir)
            kept = f"the checkpoint of step {older[-1]} is kept" if older else "there is no earlier checkpoint"
            fail(f"{trouble}; {kept}.")
        try:
            table = Table(title=None, show_header=False, box=box.MINIMAL)
            table.add_row("Config File", str(self.base_dir / "config.yml"))
            table.add_row("Checkpoint Directory", str(self.checkpoint_dir))
            if self.pipeline.datamanager.eval_dataset:
                with self.train_lock:
                    photos = self.pipeline.datamanager.fixed_indices_eval_dataloader
                    limit = time_limit(self._seconds if self._has_steps() else None)
                    measured = measure(self.pipeline.model, photos, limit)
                metrics = measured.metrics
                writer.put_dict("Eval Images Metrics Dict (all images)", metrics, self.step)
                evaluated, held_out = self._evaluated()
                if 0 < measured.num_measured < len(photos):
                    evaluated = f"{measured.num_measured} of {evaluated}"
                table.add_row(evaluated, _figures(metrics))
                if measured.num_measured < len(photos):
                    config_file = shlex.quote(str(self.base_dir / "config.yml"))
                    table.add_row("To measure all", f"ns-eval --load-config {config_file} --output-path metrics.json")
                message = self._guess_message()
                if held_out and metrics:
                    message = self._gap_message(metrics["psnr"])
                if message:
                    table.add_row("What that means", Text(message))
            writer.write_out_storage()
            title = "Training Finished" if self._has_steps() else "Run Saved"
            CONSOLE.print(Panel(table, title=f"[bold][green]:tada: {title} :tada:[/bold]", expand=False))
            for callback in self.callbacks:
                callback.run_callback_at_location(step=self.step, location=TrainingCallbackLocation.AFTER_TRAIN)
            if not self.config.viewer.quit_on_train_completion:
                self._train_complete_viewer()
        except KeyboardInterrupt as interrupt:  # this is how users leave the viewer; everything is saved
            CONSOLE.print("Finished.")
            if isinstance(interrupt, Terminated):
                raise SystemExit(TERMINATED) from None

    def _evaluated(self) -> tuple[str, bool]:
        """What the metrics are computed on, and whether training saw none of it."""
        datamanager = self.pipeline.datamanager
        photos = datamanager.eval_dataset.image_filenames
        seen = set(photos) <= set(datamanager.train_dataset.image_filenames)
        if not seen:
            return counted(len(photos), "held-out photo"), True
        views = counted(len(photos), "generated view" if self._is_generated() else "view")
        return f"{views}{', all trained on' if self._has_steps() else ''}", False

    def _is_generated(self) -> bool:
        """Whether the training images are a network's guesses from one image."""
        dataset = self.pipeline.datamanager.train_dataset
        return dataset is not None and "views_folder" in dataset.metadata

    def _guess_message(self) -> str | None:
        """What metrics of generated views mean; None for photos."""
        if not self._is_generated():
            return None
        return (
            "the metrics compare with the views that the network generated, not with the real object: one image does "
            "not show its other sides, so check these yourself"
        )

    def _gap_message(self, held_out: float) -> str | None:
        """The message about the gap between this PSNR of held-out photos and that of the training photos, if any."""
        num_photos = len(self.pipeline.datamanager.train_dataset or ())
        return gap_message(training_psnr(self.curve, self._full_size_step()), held_out, num_photos)

    # ---------------------------------------------------------------------------------------------- checkpoints

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Writes the checkpoint of `step`, then removes older ones if only the latest is kept.

        Of several processes, only the main one does so: they share the folder.

        Raises:
            OSError: The checkpoint could not be written; earlier ones are untouched.
        """
        path = checkpoint_path(self.checkpoint_dir, step)
        state = {
            "step": step,
            "pipeline": self.pipeline.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.optimizers.items()},
            "schedulers": {name: scheduler.state_dict() for name, scheduler in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
        }
        write_checkpoint(state, path, partial_path=self.base_dir / f".{path.name}.partial")
        if self.config.save_only_latest_checkpoint:
            for older in self.checkpoint_dir.glob("*.ckpt"):
                if older != path:
                    older.unlink()

    def _try_to_save(self, step: int) -> str | None:
        """Saves; returns what went wrong, in a few words, if the disk refused."""
        try:
            self.save_checkpoint(step)
        except OSError as error:
            return f"Could not save the checkpoint of step {step} in {self.checkpoint_dir}: {error.strerror or error}"
        self._save_curve()
        return None

    @check_main_thread
    def _save_curve(self) -> None:
        """Writes the training curve so far beside config.yml; a run is complete without it."""
        try:
            if self.curve:
                write_curve(self.curve, self.base_dir / CURVE_FILE)
        except OSError as error:
            reason = error.strerror or error
            warn(f"Could not save the training curve in {self.base_dir}: {reason}; the run itself is complete.")

    def _curve_until(self, step: int, path: Path) -> list[CurvePoint]:
        """The earlier part of the curve of a run that continues at `step`; empty if its table is missing or damaged."""
        try:
            return [point for point in read_curve(path) if point.step < step]
        except ValueError as error:
            warn(f"{error}; the curve begins at step {step}.")
            return []

    def _load_checkpoint(self) -> None:
        """Continues from --load-checkpoint, or from the latest (or --load-step's) checkpoint of --load-dir, if
        given.

        Raises:
            InputError: The checkpoint is missing, does not fit this configuration, or has all of its steps.
        """
        config = self.config
        if config.load_checkpoint is not None:
            path = config.load_checkpoint
        elif config.load_dir is not None:
            steps = checkpoint_steps(config.load_dir)
            if not steps:
                raise InputError(
                    f"{config.load_dir} has no checkpoints (step-….ckpt): "
                    "--load-dir takes a run's nerfstudio_models folder."
                )
            path = checkpoint_path(config.load_dir, steps[-1] if config.load_step is None else config.load_step)
        else:
            return
        if not path.is_file():
            raise InputError(f"There is no checkpoint {path}.")
        try:
            state = read_checkpoint(path)
            self.pipeline.load_pipeline(state["pipeline"], state["step"])
            self.optimizers.load_optimizers(state["optimizers"])
            if config.load_scheduler:
                self.optimizers.load_schedulers(state["schedulers"])
            self.grad_scaler.load_state_dict(state["scalers"])
            self._check_optimizer_shapes()
        except (ValueError, KeyError, RuntimeError) as error:
            missing = isinstance(error, KeyError)
            reason = f"only one of them has {error}" if missing else str(error).splitlines()[-1].strip()
            raise InputError(f"Cannot continue from {path} with these photos and options: {reason}") from error
        self._start_step = state["step"] + 1
        if not self._has_steps():
            raise InputError("This run has no steps that could be continued: leave out --load-dir.")
        if self._start_step >= config.max_num_iterations:
            raise InputError(
                f"This run already has {self._start_step} of {config.max_num_iterations} steps: "
                "give a larger --max-num-iterations to continue it."
            )
        self.curve = self._curve_until(self._start_step, path.parent.parent / CURVE_FILE)
        print_line(f"Continuing after step {state['step']} of {path}")

    def _check_optimizer_shapes(self) -> None:
        """Compares the shapes of optimizer states with their parameters, which torch does not do."""
        for name, optimizer in self.optimizers.optimizers.items():
            for param, state in optimizer.state.items():
                for value in state.values():
                    if torch.is_tensor(value) and value.dim() > 0 and value.shape != param.shape:
                        raise ValueError(f"optimizer state of {name} is {list(value.shape)}, not {list(param.shape)}")

    def _remove_empty_run(self) -> None:
        """Removes the folder that ns-train made for this run's config.yml, if it holds nothing else."""
        if not self.base_dir.is_dir() or {path.name for path in self.base_dir.iterdir()} != {"config.yml"}:
            return
        (self.base_dir / "config.yml").unlink()
        remove_empty(self.base_dir, self.config.output_dir)


def _figures(metrics: dict[str, float]) -> str:
    """Metrics of held-out photos in a line."""
    if not metrics:
        return "not measured"
    figures = f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics['ssim']:.3f}"
    if "cc_psnr" in metrics:
        figures += f"; PSNR {metrics['cc_psnr']:.2f} dB with each photo's colours fitted"
    if "covered_psnr" in metrics:
        figures += f"; PSNR {metrics['covered_psnr']:.2f} dB on the {metrics['coverage']:.0%} that the mesh covers"
    return figures
