"""Training on several processes: the step of two, each with half of a batch, is that of one process."""

import os
import socket
from functools import partial

import networks
import pytest
import timm
import torch
from torch import distributed, nn
from torch.nn.functional import cross_entropy

import sase_attn


def step(wrap=lambda network: network, rank=0, ranks=1):
    """The weights after a step on this rank's share of a batch; statistics of norms stay."""
    inner = networks.network("sase_resnet20", layers=[1, 1, 1])
    network = wrap(inner)
    torch.manual_seed(1)
    images, targets = torch.randn(4, 3, 16, 16), torch.randint(10, (4,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    cross_entropy(network(images[rank::ranks]), targets[rank::ranks]).backward()
    optimizer.step()
    weights = {name: getattr(p, "full_tensor", lambda p=p: p)() for name, p in inner.named_parameters()}
    return {name: weight.detach() for name, weight in weights.items()}


def on_rank(rank, wrap, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    weights = step(wrap, rank, 2)
    torch.save(weights, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def check(wrap, folder):
    run = partial(torch.multiprocessing.start_processes, nprocs=2, start_method="fork")
    run(on_rank, (wrap, free_port(), folder))
    expected = step()
    for rank in range(2):
        torch.testing.assert_close(torch.load(folder / f"{rank}.pt"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.works_with("torch", "`DistributedDataParallel` on two processes: the step is that of one")
def test_ddp(tmp_path):
    check(nn.parallel.DistributedDataParallel, tmp_path)


def shard(network):
    from torch.distributed.fsdp import fully_shard

    mesh = distributed.init_device_mesh("cpu", (2,))
    for block in (block for stage in (network.layer1, network.layer2, network.layer3) for block in stage):
        fully_shard(block, mesh=mesh)
    return fully_shard(network, mesh=mesh)


@pytest.mark.works_with("torch", "FSDP2, `fully_shard` of every block, on two processes: the step is that of one")
def test_fsdp2(tmp_path):
    check(shard, tmp_path)


def start_sharded(rank, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    with torch.device("meta"):
        network = timm.create_model("sase_resnet20", layers=[1, 1, 1])
    shard(network).to_empty(device="cpu")
    torch.manual_seed(0)
    sase_attn.init_weights(network)
    tensors = network.state_dict().items()
    state = {name: getattr(tensor, "full_tensor", lambda tensor=tensor: tensor)().clone() for name, tensor in tensors}
    cross_entropy(network(torch.randn(2, 3, 16, 16)), torch.tensor([0, 1])).backward()
    assert all(p.grad is None or p.grad.to_local().isfinite().all() for p in network.parameters())
    torch.save(state, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.works_with("torch", "FSDP2 of a network of the meta device, which `init_weights` starts: values as built")
def test_fsdp2_from_the_meta_device(tmp_path):
    torch.multiprocessing.start_processes(start_sharded, (free_port(), tmp_path), nprocs=2, start_method="fork")
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, built in timm.create_model("sase_resnet20", layers=[1, 1, 1]).state_dict().items():
        found = states[0][name]
        assert torch.equal(found, states[1][name]), name
        if built.min() == built.max():
            assert torch.equal(found, built), name  # a constant of the start
        else:
            assert found.isfinite().all() and (built.numel() < 100 or 0.7 < found.std() / built.std() < 1.4), name


@pytest.mark.works_with("torch", "`torch.compile` of a whole training step: forward, loss, backward, SGD")
def test_compiled_step():
    from torch._dynamo.utils import counters

    def losses(wrap):
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(3, 8, 3, 2),
            nn.BatchNorm2d(8),
            sase_attn.SASEBlock(8),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ]
        network = nn.Sequential(*layers, nn.Linear(8, 4))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        images, targets = torch.randn(4, 3, 16, 16), torch.arange(4)

        def step():
            optimizer.zero_grad()
            loss = cross_entropy(network(images), targets)
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = wrap(step)
        return torch.stack([step() for _ in range(3)])

    torch._dynamo.reset()
    expected = losses(lambda step: step)
    torch.testing.assert_close(losses(torch.compile), expected)
    assert expected[2] < expected[0]
    # torch itself leaves the graph at zero_grad, backward and step.
    assert not any("sase_attn" in reason for reason in counters["graph_break"])
    torch._dynamo.reset()


@pytest.mark.works_with("torch", "`optim.swa_utils`: averaged weights, and statistics of norms by `update_bn`")
def test_swa():
    from torch.optim.swa_utils import AveragedModel, update_bn

    averaged = AveragedModel(networks.network("sase_resnet20", layers=[1, 1, 1]))
    norm, means = averaged.module.layer1[0].se.norm, []
    norm.register_forward_pre_hook(lambda _, inputs: means.append(inputs[0].mean((0, 2, 3))))
    update_bn([torch.randn(4, 3, 16, 16) for _ in range(3)], averaged)
    assert len(means) == norm.num_batches_tracked == 3
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(0))
