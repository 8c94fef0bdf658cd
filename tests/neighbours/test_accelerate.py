"""accelerate's training loop."""

import networks
import pytest
import timm
import torch
from torch.nn.functional import cross_entropy

import sase_attn  # noqa: F401  registers the models with timm


@pytest.mark.works_with("accelerate", "two batches a step, `save_state`, `load_state`, `init_empty_weights`")
def test_loop(tmp_path):
    from accelerate import Accelerator, init_empty_weights

    args = {"layers": [1, 1, 1]}
    network, expected = (networks.network("sase_resnet20", **args).train() for _ in range(2))
    images, targets = torch.randn(4, 3, 16, 16), torch.randint(10, (4,))
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, targets), batch_size=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network, optimizer, data = accelerator.prepare(network, optimizer, data)
    for batch in data:
        with accelerator.accumulate(network):
            accelerator.backward(cross_entropy(network(batch[0]), batch[1]))
            optimizer.step()
            optimizer.zero_grad()

    for half in (slice(0, 2), slice(2, 4)):
        (cross_entropy(expected(images[half]), targets[half]) / 2).backward()
    torch.optim.SGD(expected.parameters(), lr=0.1).step()
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(weights[key], value)

    accelerator.save_state(tmp_path)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    accelerator.load_state(tmp_path)
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    with init_empty_weights():
        empty = timm.create_model("sase_resnet20", **args)
    assert all(parameter.is_meta for parameter in empty.parameters())
