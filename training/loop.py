"""The training loop. It knows no model: a `Stage` brings network, loss and sheets.

Notable: everything random in a step is seeded from (seed, step, micro-batch), and the data order is arithmetic on
positions. So a checkpoint is tensors and a step number, a resumed run repeats the uninterrupted one bit for bit, and
two processes compute what one process computes with twice the accumulation.

accelerate gives device, processes, gradient averaging, accumulation and trackers. Its autocast is not used: on a CPU
it casts around every operation and is several times slower than a network that is bfloat16 throughout, see `InDtype`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import send_to_device
from diffusers.training_utils import EMAModel
from tqdm import tqdm

from . import checkpoint
from .config import TrainConfig
from .data import Shards, load, shuffled, split
from .stage import Stage

MAY_CHANGE = {"data", "steps", "keep", "validate_every", "sample_every", "checkpoint_every", "log_every"}


def fit(stage: Stage, config: TrainConfig, data: str, out: str | Path, resume: bool = False) -> Path:
    """Train `stage` on the shards `data`, writing everything under `out`; returns `out/model`, the averaged network.

    `out` gets `config.yaml`, `log.jsonl`, `tensorboard/`, `samples/step-N.png`, `checkpoints/step-N/` and `model/`.
    With `resume` the newest checkpoint in `out` is continued. Ctrl-C saves a checkpoint and raises KeyboardInterrupt
    with a sentence that says how to go on. Raises FileExistsError if `out` is in use, FileNotFoundError for missing
    data, ValueError for damaged data or another recipe than the checkpoint's, FloatingPointError if the loss diverges.
    """
    out = Path(out)
    if resume and not out.is_dir():
        raise FileNotFoundError(f"There is nothing to resume in {out}: the folder does not exist.")
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty: choose another folder, or continue what is there with --resume.")
    return _Run(stage, config, Shards(data), out).fit()


class InDtype(torch.nn.Module):
    """`model` computing in `dtype` while its parameters and their gradients stay float32; returns float32.

    Parameters and floating inputs are cast at the door and autograd casts the gradients back, so the network itself
    runs in one format throughout: on a CPU with bfloat16 units about ten times faster than float32.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self.dtype == torch.float32:
            return self.model(*args, **kwargs)
        weights = _cast(dict(self.model.named_parameters()), self.dtype)
        output = torch.func.functional_call(self.model, weights, _cast(args, self.dtype), _cast(kwargs, self.dtype))
        return _cast(output, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _cast(v, dtype) for key, v in value.items()}
    return type(value)(_cast(v, dtype) for v in value) if type(value) in (tuple, list) else value


def resolve_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The format to compute in: `auto` is bfloat16 where `device` multiplies it natively, else float32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


class _Run:
    def __init__(self, stage: Stage, config: TrainConfig, shards: Shards, out: Path):
        self.stage, self.config, self.shards, self.out = stage, config, shards, out
        self.accelerator = Accelerator(log_with="tensorboard", project_dir=str(out))
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.micro = config.micro_batch or config.batch_size // processes
        if not self.micro or config.batch_size % (self.micro * processes):
            raise ValueError(
                f"batch_size {config.batch_size} cannot be shared evenly by {processes} processes in forward passes "
                f"of {self.micro or 1}; choose a multiple of {(self.micro or 1) * processes}."
            )
        self.units = range(rank, config.batch_size // self.micro, processes)
        self.accelerator.gradient_accumulation_steps = len(self.units)
        self.train_numbers, self.held_numbers = split(len(shards), config.validation_samples, config.seed)
        self.dtype = resolve_dtype(config.precision, self.accelerator.device)

        stage.model.to(self.accelerator.device).train()
        self.named = {n: p for n, p in stage.model.named_parameters() if p.requires_grad}
        groups = [
            {"params": [p for p in self.named.values() if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in self.named.values() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)
        self.ema = EMAModel(
            stage.model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=3 / 4, foreach=True
        )
        self.forward, self.optimizer = self.accelerator.prepare(InDtype(stage.model, self.dtype), optimizer)
        self.step = 0
        self._reset_sums()

    def fit(self) -> Path:
        self._restore()
        self.accelerator.wait_for_everyone()
        self.accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": self.step + 1}})
        if self.accelerator.is_main_process:
            self._start_files()
        every, last = self.config, self.config.steps
        batches = load(self.shards, self.stage.prepare, self._my_batches())
        hidden = not self.accelerator.is_main_process
        with _Interrupt() as interrupt, tqdm(total=last, initial=self.step, unit="step", disable=hidden) as bar:
            while self.step < last:
                self._update(batches)
                bar.update()
                stop = self._anyone(interrupt.asked)
                saving = stop or self._due(every.checkpoint_every)
                if saving or self._due(every.log_every):
                    bar.set_postfix(self._log_training(), refresh=False)
                paused = time.perf_counter()
                if self._due(every.validate_every) and not stop:
                    self._validate()
                if self._due(every.sample_every) and not stop:
                    self._draw()
                if saving:
                    self._save()
                self.clock += time.perf_counter() - paused
                if stop:
                    self.accelerator.end_training()
                    raise KeyboardInterrupt(f"Stopped after step {self.step}, saved in {self.out}: add --resume to go on.")
        self.accelerator.end_training()
        return self.out / "model"

    def _update(self, batches: Iterator[dict[str, Any]]) -> None:
        """One optimizer step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        for unit in self.units:
            batch = send_to_device(next(batches), self.accelerator.device, non_blocking=True)
            with self.accelerator.accumulate(self.forward):
                loss, metrics = self.stage.loss(self.forward, batch, self._generator(0, self.step, unit))
                self.accelerator.backward(loss)
                self._add({"loss": loss, **metrics})
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.named.values(), self.config.clip or torch.inf)
                    self._add({"gradient_norm": norm * len(self.units)})  # sums are divided by the units
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.ema.step(self.stage.model.parameters())
        self.step += 1
        self.count += 1

    def _generator(self, purpose: int, step: int, unit: int) -> torch.Generator:
        """The noise of one micro-batch; also seeds the global generators (dropout), differently."""
        own, other = np.random.SeedSequence([self.config.seed, purpose, step, unit]).generate_state(2)
        random.seed(int(other))
        np.random.seed(other)
        torch.manual_seed(int(other))
        return torch.Generator().manual_seed(int(own))

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

    # Logs

    def _reset_sums(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0
        self.clock = time.perf_counter()

    def _add(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            value = torch.as_tensor(value, device=self.accelerator.device).detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def _log_training(self) -> dict[str, str]:
        """Means since the last line; a line is due at every checkpoint, so nothing pending is lost with a kill."""
        sums = self.accelerator.reduce(torch.stack(list(self.sums.values())), "mean") / (self.count * len(self.units))
        means = dict(zip(self.sums, sums.tolist(), strict=True))
        speed = self.count * self.config.batch_size / (time.perf_counter() - self.clock)
        line = {**means, "learning_rate": self.config.rate(self.step - 1), "samples_per_s": round(speed, 2)}
        if flops := getattr(self.stage, "flops_per_sample", None):
            line["tflop_per_s"] = round(speed * flops / 1e12, 3)
        self._write_line(line)
        if not np.isfinite(means["loss"]) or not np.isfinite(means["gradient_norm"]):
            raise FloatingPointError(
                f"The loss is not finite at step {self.step}; resume from the last checkpoint with another seed, or "
                "start again with a lower learning_rate or a longer warmup."
            )
        self._reset_sums()
        return {"loss": f"{means['loss']:.4f}", "samples/s": f"{speed:.1f}"}

    def _write_line(self, values: dict[str, float]) -> None:
        self.accelerator.log(values, step=self.step)
        if self.accelerator.is_main_process:
            with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": self.step, **values}) + "\n")

    def _start_files(self) -> None:
        """The recipe, and the log without lines that a killed run wrote after its last checkpoint."""
        text = yaml.safe_dump(dataclasses.asdict(self.config), sort_keys=False)
        checkpoint.write_file(self.out / "config.yaml", lambda path: _write_text(path, text))
        log = self.out / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.step]
        checkpoint.write_file(log, lambda path: _write_text(path, "".join(kept)))

    # The averaged network

    def _averaged(self, dtype: torch.dtype) -> torch.nn.Module:
        model = copy.deepcopy(self.stage.model)
        self.ema.copy_to(model.parameters())
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def _validate(self) -> None:
        """Loss of the averaged network on held-out samples, with the same noise every time."""
        held, processes = self.held_numbers.tolist(), self.accelerator.num_processes
        units = [held[i : i + self.micro] for i in range(0, len(held), self.micro)]
        if not units:
            return
        mine = range(self.accelerator.process_index, len(units), processes)
        forward = InDtype(self._averaged(self.dtype), self.dtype)
        sums: dict[str, float] = {}
        batches = load(self.shards, self.stage.prepare, (units[i] for i in mine))
        for unit, batch in zip(mine, batches, strict=True):
            batch = send_to_device(batch, self.accelerator.device)
            loss, metrics = self.stage.loss(forward, batch, self._generator(1, 0, unit))
            for name, value in {"loss": loss, **metrics}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(units[unit])
        total = torch.tensor([sums.get(n, 0.0) for n in sums], device=self.accelerator.device)
        means = self.accelerator.reduce(total, "sum") / len(held)
        self._write_line({f"validation_{n}": v for n, v in zip(sums, means.tolist(), strict=True)})

    @torch.no_grad()
    def _draw(self) -> None:
        if self.accelerator.is_main_process:
            sheet = self.stage.samples(self._averaged(self.dtype))
            if sheet is not None:
                checkpoint.write_file(self.out / "samples" / f"step-{self.step:08d}.png", sheet.save)
        self.accelerator.wait_for_everyone()

    # Checkpoints

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Everything a step changes, by name; the very tensors, so that loading is copying into them."""
        model = self.stage.model
        tensors = {f"model/{name}": tensor for name, tensor in [*model.named_parameters(), *model.named_buffers()]}
        averages = zip(model.named_parameters(), self.ema.shadow_params, strict=True)
        tensors |= {f"ema/{name}": average for (name, _), average in averages}
        for name, parameter in self.named.items():
            state = self.optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            tensors |= {f"{kind}/{name}": tensor for kind, tensor in state.items()}
        return tensors

    def _facts(self) -> dict[str, Any]:
        return {
            "config": json.loads(json.dumps(dataclasses.asdict(self.config))),
            "data": f"{len(self.shards)} samples, {self.shards.fingerprint()}",
        }

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            checkpoint.save(self.out / "checkpoints", self.step, self._tensors(), self._facts(), self.config.keep)
            averaged = self._averaged(torch.float32)
            checkpoint.write_folder(self.out / "model", lambda folder: self.stage.save(averaged, folder))
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def _restore(self) -> None:
        found = checkpoint.existing(self.out / "checkpoints")
        if not found:
            return
        saved, facts = checkpoint.load(found[-1])
        config, old = self._facts()["config"], facts["config"]
        for key in sorted((config.keys() | old.keys()) - MAY_CHANGE):
            if config.get(key) != old.get(key):
                raise ValueError(
                    f"{found[-1]} was trained with {key} {old.get(key)!r}, the recipe says {config.get(key)!r}: "
                    "resume with the same value, or start a new folder."
                )
        if facts["data"] != self._facts()["data"]:
            raise ValueError(f"{found[-1]} was trained on other data ({facts['data']}, not {self._facts()['data']}).")
        tensors = self._tensors()
        if saved.keys() != tensors.keys():
            raise ValueError(f"{found[-1]} is of another network: {sorted(saved.keys() ^ tensors.keys())[:5]}.")
        for name, tensor in tensors.items():
            tensor.copy_(saved[name])
        self.step = self.ema.optimization_step = facts["step"]


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


class _Interrupt:
    """Turns the first Ctrl-C into a flag that the loop asks for between steps; the second one interrupts at once."""

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
