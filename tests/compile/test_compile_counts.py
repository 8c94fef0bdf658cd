"""How much the code that torch.compile generates for the searched block reads and writes, and in how many kernels.

Counted by Inductor itself while it compiles, so the same on every machine with a given torch: bounds are a little above
what torch 2.15 needs, and what a pass too many or a copy of the map costs is more than that. N is the map's size.
"""

from collections.abc import Iterator

import pytest
import torch
from torch._inductor import metrics

from sase_attn import SASEBlock

pytestmark = pytest.mark.usefixtures("one_thread", "counted")
SHAPE = (2, 64, 28, 28)  # compiled, it is never run
N = 4 * 2 * 64 * 28 * 28


@pytest.fixture
def counted() -> Iterator[None]:
    """Inductor counts bytes while somebody listens, and compiles anew where nothing is cached."""
    torch._logging.set_logs(inductor_metrics=True)
    torch._dynamo.reset()
    with torch._inductor.config.patch(force_disable_caches=True):
        yield
    torch._dynamo.reset()
    torch._logging.set_logs()


def counts() -> tuple[int, float]:
    """Kernels, and bytes in units of N, since the last call."""
    result = metrics.generated_kernel_count, metrics.num_bytes_accessed / N
    metrics.reset()
    return result


# Kernels and maps, without gradients, forward and backward: torch 2.15 needs 13, 14, 28 and 4.31, 4.33, 11.56 of
# contiguous maps, 15, 16, 22 and 5.31, 5.33, 11.57 of channels_last.
@pytest.mark.parametrize(
    "layout, bounds",
    [
        pytest.param(torch.contiguous_format, [(15, 4.5), (16, 4.5), (31, 12.0)], id="nchw"),
        pytest.param(torch.channels_last, [(17, 5.5), (18, 5.5), (25, 12.0)], id="nhwc", marks=pytest.mark.slow),
    ],
)
def test_of_the_block(layout, bounds):
    block = torch.compile(SASEBlock(64, gate_init="release"), fullgraph=True, dynamic=False)
    x = torch.randn(SHAPE).to(memory_format=layout)
    metrics.reset()
    with torch.no_grad():
        block(x)
    found = [counts()]
    y = block(x.requires_grad_())
    found.append(counts())
    y.sum().backward()
    found.append(counts())
    for (kernels, read_and_written), (most_kernels, most) in zip(found, bounds, strict=True):
        assert 0 < kernels <= most_kernels, found
        assert 2 <= read_and_written <= most, found
