"""Costs of a training step of few-shot synthesis with each kind of skip: time, memory, images per second.

    python benchmarks/synthesis_step.py [--size 128] [--width 16] [--batch-size 4] [--rounds 10] [--threads 1]

Both generators take steps in turn, so that other work of the machine affects both. The script prints the medians, their
ratio, and the bytes that a step keeps for its backward pass. Run it on an idle machine.
"""

import argparse
import statistics
import time

import torch

from sase_attn.spatially_adaptive.synthesis import SynthesisConfig
from sase_attn.spatially_adaptive.synthesis.estimate import memory
from sase_attn.spatially_adaptive.synthesis.generator import SKIPS
from sase_attn.spatially_adaptive.synthesis.trainer import Trainer
from sase_attn.training.provenance import machine


def seconds(configs: list[SynthesisConfig], rounds: int) -> list[tuple[list[float], list[float]]]:
    """For each configuration the times of its steps, and of making a batch of images in eval mode."""
    trainers = [Trainer(config, torch.device("cpu")) for config in configs]
    first = configs[0]
    images = torch.randint(0, 256, (first.batch_size, 3, first.size, first.size), dtype=torch.uint8)
    found: list[tuple[list[float], list[float]]] = [([], []) for _ in configs]
    for number in range(rounds + 1):
        for trainer, (steps, samples) in zip(trainers, found, strict=True):
            start = time.perf_counter()
            trainer.step(images, number + 1)
            middle = time.perf_counter()
            trainer.average.generator.sample(first.batch_size)
            if number:  # the first round warms up
                steps.append(middle - start)
                samples.append(time.perf_counter() - middle)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--size", 128), ("--width", 16), ("--batch-size", 4), ("--rounds", 10), ("--threads", 1)):
        parser.add_argument(name, type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    fields = {"size": args.size, "width": args.width, "batch_size": args.batch_size}
    configs = [SynthesisConfig(**fields, skip=skip) for skip in SKIPS]
    medians = []
    for config, (steps, samples) in zip(configs, seconds(configs, args.rounds), strict=True):
        medians.append(statistics.median(steps))
        made = config.batch_size / statistics.median(samples)
        waiting = memory(config).step / 2**20
        print(f"{config.skip}: {medians[-1]:.3f} s a step, {made:.1f} images/s made, {waiting:.0f} MiB wait in a step")
    print(f"{SKIPS[1]} / {SKIPS[0]}: {medians[1] / medians[0]:.3f}; {machine()}")


if __name__ == "__main__":
    main()
