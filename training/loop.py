"""The training loop. It knows no model: a `Stage` brings network, loss and sheets.

Notable: everything random in a step is seeded from (seed, step, micro-batch), and the order of the data is
arithmetic on positions. So a checkpoint is tensors and a step number, a resumed run repeats the uninterrupted
one bit for bit (on a CPU; a GPU may round sums differently), and two processes compute what one computes with
twice the accumulation. accelerate gives device, processes, averaged gradients, accumulation and trackers;
`precision.py` says why not its autocast.
"""

from __future__ import annotations

import copy
import math
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm import tqdm

from ..layers.precision import resolve_dtype
from ..weights.write_whole import check_writable, sweep, write_whole
from . import checkpoint
from .config import TrainConfig
from .data import load, shuffled, split
from .optimizer import make_optimizers, state_tensors
from .precision import InDtype
from .record import Means, Record
from .sharding import shard, whole
from .shards import Shards
from .stage import Stage

TRAINING, VALIDATION = 0, 1


def fit(stage: Stage, config: TrainConfig, data: str, out: str | Path, resume: bool = False) -> Path:
    """Train `stage` on the shards `data`; returns `out/model`, the averaged network in its inference layout.

    `out` gets `config.yaml`, `log.jsonl`, `tensorboard/`, `samples/step-N.png`, `checkpoints/step-N/` and,
    with every checkpoint anew, `model/`. `resume` continues the newest checkpoint. Ctrl-C saves one and raises
    KeyboardInterrupt with a sentence that says how to go on. A sample that cannot be read is warned of, and the next
    one takes its place. Raises FileExistsError if `out` is in use, PermissionError if nothing can be written there,
    FileNotFoundError for missing data, ValueError for damaged shards or four unreadable samples in a row, or for
    another recipe or data than the checkpoint's, FloatingPointError if the loss diverges.
    """
    out = Path(out)
    if resume and not (out / "config.yaml").is_file():
        raise FileNotFoundError(f"there is nothing to resume in {out}: it is not the folder of a run")
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(
            f"{out} is not empty: choose another folder, or continue what is there with --resume"
        )
    check_writable(out / "model")
    return _Run(stage, config, Shards(data), out).fit()


class _Run:
    def __init__(self, stage: Stage, config: TrainConfig, shards: Shards, out: Path):
        self.stage, self.config, self.shards, self.out = stage, config, shards, out
        self.data = shards.fingerprint()
        # Under torchrun, accelerate gives every process a world of its own unless told that this is a CPU.
        on_cpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
        self.accelerator = Accelerator(
            mixed_precision="no", cpu=on_cpu, log_with="tensorboard", project_dir=str(out)
        )
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.micro = config.micro_batch or max(1, config.batch_size // processes)
        if config.batch_size % (self.micro * processes):
            raise ValueError(
                f"batch_size {config.batch_size} cannot be shared evenly by {processes} processes with "
                f"{self.micro} samples in a forward pass; choose a multiple of {self.micro * processes}"
            )
        self.units = range(rank, config.batch_size // self.micro, processes)
        self.accelerator.gradient_accumulation_steps = len(self.units)
        self.train_numbers, self.held_numbers = split(len(shards), config.validation_samples, config.seed)
        if begin := getattr(stage, "begin", None):
            begin(shards)

        device = self.accelerator.device
        for module in getattr(stage, "frozen", ()):
            module.to(device).eval().requires_grad_(False)
        stage.model.to(device).train()
        self.dtype = resolve_dtype(config.precision, device)
        forward = InDtype(stage.model, self.dtype)
        asked = self.accelerator.distributed_type == DistributedType.FSDP  # by accelerate's own configuration
        self.sharded = asked or (config.shard and processes > 1)
        self.forward = shard(forward, device) if self.sharded else self.accelerator.prepare_model(forward)
        self.trained = {name: p for name, p in stage.model.named_parameters() if p.requires_grad}
        # What batch norm keeps of its inputs is averaged too, as it belongs to the weights of its time.
        kept = {name: b for name, b in stage.model.named_buffers() if b.is_floating_point()}
        self.live = {**dict(stage.model.named_parameters()), **kept}
        self.averages = {name: tensor.detach().clone() for name, tensor in self.live.items()}
        if self.sharded and config.optimizer == "muon":
            raise ValueError("Muon needs whole matrices; drop shard from the recipe, or train with adamw")
        self.optimizers = make_optimizers(stage.model, config.optimizer, config.weight_decay, self.dtype)
        self.record = Record(self.accelerator, out)
        self.step = 0

    def fit(self) -> Path:
        self._restore()
        if self.accelerator.is_main_process:
            sweep(self.out / "model")
            sweep(self.out / "checkpoints" / "step-*")
        self.accelerator.wait_for_everyone()
        self._start_counting()
        begun = self.step
        batches = load(self.shards, self.stage.prepare, self._my_batches(), self.train_numbers)
        hidden = not self.accelerator.is_main_process
        bar = tqdm(total=self.config.steps, initial=self.step, unit="step", disable=hidden)
        with _Interrupt() as interrupt, bar:
            while self.step < self.config.steps:
                self._update(batches)
                bar.update()
                if self.step == begun + 1:  # so that a step that fails at once leaves no folder
                    opening = time.perf_counter()
                    self.record.open(begun, self.config)
                    self.clock += time.perf_counter() - opening
                stop = self._anyone(interrupt.asked)
                saving = stop or self._due(self.config.checkpoint_every)
                if saving or self._due(self.config.log_every):
                    bar.set_postfix(self._log(), refresh=False)
                paused = time.perf_counter()
                if self._due(self.config.validate_every) and not stop:
                    self._validate()
                if saving:
                    self._save()
                if self._due(self.config.sample_every) and not stop:
                    self._draw()
                self.clock += time.perf_counter() - paused
                if stop:
                    break
        self.accelerator.end_training()
        if self.step < self.config.steps:
            raise KeyboardInterrupt(
                f"stopped and saved after step {self.step}; --resume with --out {self.out} goes on"
            )
        return self.out / "model"

    def _update(self, batches: Iterator[dict[str, Any]]) -> None:
        """One optimizer step."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = self.config.rate(self.step)
        for unit in self.units:
            batch = self._on_device(next(batches))
            with self.accelerator.accumulate(self.forward):
                loss, metrics = self.stage.loss(
                    self.forward, batch, self._generator(TRAINING, self.step, unit)
                )
                self.accelerator.backward(loss)
            self.means.add({"loss": loss, **metrics})
        self.means.add({"gradient_norm": self._limit_gradient()})
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.count += 1
        decay = min(self.config.ema_decay, 1 - self.step**-0.75)  # early on the average forgets sooner
        for name, average in self.averages.items():
            average.lerp_(self.live[name].detach(), 1 - decay)

    def _limit_gradient(self) -> torch.Tensor:
        """Scale the gradient down to the norm that the recipe allows; returns the norm that it had."""
        with_gradient: list[Any] = [p for p in self.trained.values() if p.grad is not None]
        # Scalars are never sharded, and norms of sharded and whole tensors do not mix.
        groups = [[p for p in with_gradient if (p.ndim == 0) == scalar] for scalar in (True, False)]
        if self.sharded:
            for scalar in (p for some in groups for p in some if p.ndim == 0):
                scalar.grad = self.accelerator.reduce(scalar.grad, "mean")
        norms = [whole(get_total_norm([p.grad for p in some])) for some in groups if some]
        norm = torch.stack(norms).norm()
        for some in groups:
            clip_grads_with_norm_(some, self.config.max_gradient_norm or math.inf, norm)
        return norm

    def _generator(self, purpose: int, step: int, unit: int) -> torch.Generator:
        """The noise of one micro-batch; also seeds the global generators (dropout), differently."""
        own, shared = np.random.SeedSequence([self.config.seed, purpose, step, unit]).generate_state(2)
        random.seed(int(shared))
        np.random.seed(shared)
        torch.manual_seed(int(shared))
        return torch.Generator().manual_seed(int(own))

    def _on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        tensors = {name: v for name, v in batch.items() if isinstance(v, torch.Tensor)}
        return batch | {n: t.to(self.accelerator.device, non_blocking=True) for n, t in tensors.items()}

    def _my_batches(self) -> Iterator[list[int]]:
        for step in range(self.step, self.config.steps):
            for unit in self.units:
                start = step * self.config.batch_size + unit * self.micro
                yield shuffled(self.train_numbers, self.config.seed, range(start, start + self.micro))

    def _due(self, cadence: int) -> bool:
        return self.step == self.config.steps or (cadence > 0 and self.step % cadence == 0)

    def _anyone(self, asked: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return asked
        flag = torch.tensor(float(asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum"))

    def _start_counting(self) -> None:
        self.means, self.count, self.clock = Means(), 0, time.perf_counter()

    def _log(self) -> dict[str, str]:
        """Write the means since the last line; also due at every checkpoint, so that a kill loses none."""
        means = self.means.over(self.accelerator)
        speed = self.count * self.config.batch_size / (time.perf_counter() - self.clock)
        line = {**means, "learning_rate": self.config.rate(self.step - 1), "samples_per_s": round(speed, 2)}
        self.record.write(self.step, line)
        if not math.isfinite(means["loss"]) or not math.isfinite(means["gradient_norm"]):
            raise FloatingPointError(
                f"the loss is not finite at step {self.step}, after which nothing was saved; "
                "start again with a lower learning_rate or a longer warmup"
            )
        self._start_counting()
        return {"loss": f"{means['loss']:.4f}", "samples/s": f"{speed:.1f}"}

    @torch.no_grad()
    def _averaged(self, dtype: torch.dtype) -> torch.nn.Module:
        """A copy of the network with its averaged weights, whole, in every process."""
        model = copy.deepcopy(self.stage.model)
        buffers = dict(model.named_buffers())
        weights = {
            name: whole(average).to(average.dtype if name in buffers else dtype, copy=True)
            for name, average in self.averages.items()
        }
        # Not strict: buffers that are no floating numbers stay as they are.
        model.load_state_dict(weights, strict=False, assign=True)
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def _validate(self) -> None:
        """Loss of the averaged network on held-out samples, with the same noise every time."""
        held, processes = self.held_numbers.tolist(), self.accelerator.num_processes
        if not held:
            return
        units = [held[i : i + self.micro] for i in range(0, len(held), self.micro)]
        rounds = math.ceil(
            len(units) / processes
        )  # a process that has no unit left repeats one, with weight 0
        mine = range(self.accelerator.process_index, rounds * processes, processes)
        forward, means = InDtype(self._averaged(torch.float32), self.dtype), Means()
        batches = load(self.shards, self.stage.prepare, (units[i % len(units)] for i in mine), held)
        for i, batch in zip(mine, batches, strict=True):
            batch = self._on_device(batch)
            loss, metrics = self.stage.loss(forward, batch, self._generator(VALIDATION, 0, i % len(units)))
            means.add({"loss": loss, **metrics}, weight=len(units[i]) if i < len(units) else 0)
        values = means.over(self.accelerator)
        self.record.write(self.step, {f"validation_{name}": value for name, value in values.items()})

    @torch.no_grad()
    def _draw(self) -> None:
        samples = getattr(self.stage, "samples", None)
        if samples is None:
            return
        averaged = self._averaged(self.dtype)
        if self.accelerator.is_main_process and (sheet := samples(averaged)) is not None:
            path = self.out / "samples" / f"step-{self.step:08d}.png"
            path.parent.mkdir(exist_ok=True)
            with write_whole(path) as beside:
                sheet.save(beside)
        self.accelerator.wait_for_everyone()

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Everything that a step changes, by name: the very tensors, so that loading is copying into them."""
        model = self.stage.model
        tensors = {f"model/{name}": t for name, t in [*model.named_parameters(), *model.named_buffers()]}
        tensors |= {f"ema/{name}": average for name, average in self.averages.items()}
        return tensors | state_tensors(self.optimizers, self.trained)

    def _save(self) -> None:
        averaged = self._averaged(torch.float32)
        if self.accelerator.is_main_process:
            with write_whole(self.out / "model") as beside:
                beside.mkdir()
                self.stage.save(averaged, beside)
        # The checkpoint last: where there is one, its model is there too.
        facts = {"config": self.config.model_dump(mode="json"), "data": self.data}
        checkpoint.save(self.out / "checkpoints", self.step, self._tensors(), facts, self.config.keep)

    @torch.no_grad()
    def _restore(self) -> None:
        found = checkpoint.existing(self.out / "checkpoints")
        if not found:
            return
        facts = checkpoint.read_facts(found[-1])
        self.config.check_resumes(facts["config"])
        if facts["data"] != self.data:
            raise ValueError(
                f"{found[-1]} was trained on other data; resume with the same shards, or train in another folder, "
                f"from {self.out / 'model'} on where the stage has start_from:"
            )
        if facts["step"] > self.config.steps:
            raise ValueError(f"{found[-1]} is past step {self.config.steps}; resume with more steps")
        checkpoint.load(found[-1], self._tensors())
        self.step = facts["step"]


class _Interrupt:
    """Makes the first Ctrl-C a flag that the loop asks for between steps; a second one interrupts at once."""

    def __enter__(self) -> _Interrupt:
        self.asked = False
        self.mine = threading.current_thread() is threading.main_thread()
        self.before = signal.signal(signal.SIGINT, self._ask) if self.mine else None
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self.before)

    def __exit__(self, *exception: Any) -> None:
        if self.mine:
            signal.signal(signal.SIGINT, self.before)
