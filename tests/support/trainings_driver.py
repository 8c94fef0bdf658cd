"""A worker of a search as a separate process, with options as JSON, to be killed or stopped.

By default its trainings compute nothing, because `Counting` replaces `train`.
"""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import search_driver
import torch

from sase_attn.search import by_shared_weights, by_trainings, study
from sase_attn.search.compare import default_recipe
from sase_attn.search.config import BY_TRAININGS
from sase_attn.search.shared_weights import loop
from sase_attn.search.trained import Training
from sase_attn.search.trainings import run
from sase_attn.training.data import DataIdentity
from sase_attn.training.result import TrainResult

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


@dataclass
class Pairs:
    """A plan of a number of trainings: two genotypes with seeds 0, 1, …"""

    config: object
    count: int

    def wanted(self, done):
        space, ended = self.config.search_space(), {row.training for row in done}
        pairs = [Training(space.random(i % 2), i // 2) for i in range(self.count)]
        return [training for training in pairs if training not in ended]


@dataclass
class Counting:
    """Replaces `train`: each epoch adds to a sum in the checkpoint, and resuming continues the sum.

    A signal is sent to this process after a number of epochs over all trainings.
    """

    seconds: float = 0.0
    signal: str = ""
    after: int = -1
    epochs: int = 0

    def __call__(self, recipe, output, *, resume, echo, **options):
        if os.environ.get("RANK", "0") != "0":
            return result(0.0, 1.0)
        file = Path(output) / "checkpoint.pt"
        start = f"{recipe.model_kwargs['attn']} {recipe.seed}"
        state = json.loads(file.read_text()) if resume else {"epoch": 0, "sum": sum(map(ord, start))}
        Path(output).mkdir(parents=True, exist_ok=True)
        with (Path(output) / "log.jsonl").open("a") as log:
            while state["epoch"] < recipe.epochs:
                time.sleep(self.seconds)
                state = {"epoch": state["epoch"] + 1, "sum": state["sum"] * 7 % 1009}
                file.write_text(json.dumps(state))
                print(f"epoch by {os.getpid()}", file=log, flush=True)
                self.epochs += 1
                if self.epochs == self.after:
                    os.kill(os.getpid(), SIGNALS[self.signal])
                echo("epoch")
        return result(state["sum"] / 1009, 1.0)


def result(top1, loss):
    """The result of a training, of which the search reads only these two numbers."""
    made = object.__new__(TrainResult)
    made.__dict__.update(SimpleNamespace(top1=top1, loss=loss).__dict__)
    return made


def super_network(config, options, **shared):
    """A search by shared weights; if a step of the super-network is given, the process is killed there."""
    kill_at, count, step = options.get("kill_at", -1), 0, loop.Searcher.step

    def watched(self, batch):
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch)

    loop.Searcher.step = watched
    resume = options.get("resume", False)
    try:
        return by_shared_weights.search_by_shared_weights(config, options["folder"], resume=resume, **shared)
    except by_shared_weights.OnlyLookedError as error:
        print(error)
        sys.exit(0)


def rows(done):
    return [[str(row.training.genotype), row.training.seed, row.top1, row.loss] for row in done]


def main() -> None:
    torch.set_num_threads(1)
    options = json.loads(sys.argv[1])
    config = search_driver.tiny(options["data"], model_kwargs={"layers": [1, 1, 1]}, without=["gsop"])
    recipe = default_recipe(config, 3).override(batch_size=36)
    if options.get("real"):
        real, counting = run.train, Counting(signal=options.get("signal", ""), after=options.get("after", -1))

        def train(recipe, output, *, echo, **more):
            def watched(line):
                counting.epochs += "top-1" in line
                if counting.epochs == counting.after:
                    os.kill(os.getpid(), SIGNALS[counting.signal])
                echo(line)

            return real(recipe, output, echo=watched, **more)

        run.train = train
    else:
        run.check_start = lambda recipes, device: DataIdentity()
        run.train = Counting(options.get("seconds", 0.0), options.get("signal", ""), options.get("after", -1))
    shared = {
        "storage": options.get("storage"),
        "lease": options.get("lease", 60.0),
        "device": "cpu",
        "echo": lambda line: print(line, flush=True),
    }
    if "search" in options:
        config = config.override(**options["search"])
        study.check_start = run.check_start
        if config.method in BY_TRAININGS:
            found = by_trainings.search_by_trainings(config, options["folder"], recipe=recipe, **shared)
        else:
            found = super_network(config, options, recipe=recipe, **shared)
        values = {"alpha": found.alpha, "scores": found.scores, "reason": found.reason}
        trained = [list(vars(row).values()) for row in found.trained]
        print(json.dumps({"genotype": found.genotype, "trained": trained, **values}))
        return
    plan = Pairs(config, options["count"])
    done = run.run_trainings(
        plan,
        config,
        recipe,
        options["folder"],
        **shared,
    )
    print(json.dumps(rows(done)), flush=True)


if __name__ == "__main__":
    main()
