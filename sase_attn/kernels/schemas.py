"""The operators that both sets of kernels have, by their signatures: what each takes and gives.

`cpu.operators` has them as functions, `triton.operators` as operators of torch, `torch.ops.sase_attn.…`. Where a map
is x·sign·scale + shift it is never stored: `sign` (C,) and `scale_shift` (2, C) are given beside x. float64 maps are
computed in float64, all others in float32, which is the type of all results but maps.
"""

SCHEMAS = (
    # Statistics `unweighted` (bits, see `spec`) of x (B, C, H, W), and `weighted` ones of x·weight (B, C), over the
    # positions (over = 2) or channels (over = 1): rows (statistics, B, C or H·W), and rows for the backward pass.
    "reduce(Tensor x, Tensor? weight, int over, int unweighted, int weighted, Tensor? sign=None, "
    "Tensor? scale_shift=None) -> (Tensor values, Tensor saved)",
    # Gradient (B, C) of the weight of statistics over the channels; gradients, values and saved rows of those only.
    "weight_backward(Tensor x, Tensor weight, Tensor grads, Tensor values, Tensor saved, int weighted) -> Tensor",
    # Of statistics over the channels of x·sign·scale + shift, the gradients of scale and shift (2, C) and of the weight
    # (B, C), which has no elements without a weight; in the rows of one `reduce`.
    "channels_backward(Tensor x, Tensor? weight, Tensor grads, Tensor values, Tensor saved, int unweighted, "
    "int weighted, Tensor? sign, Tensor scale_shift) -> (Tensor daffine, Tensor dweight)",
    # x·(channel + position) + shortcut, through a ReLU if `relu`, for gates (B, C) and (B, H·W).
    "gate(Tensor x, Tensor channel, Tensor position, Tensor? shortcut, bool relu, Tensor? sign=None, "
    "Tensor? scale_shift=None) -> Tensor",
    # Sums of g·x over the positions (B, C) and over the channels (B, H·W); and g, made 0 where y, the output behind a
    # ReLU, is (empty without y).
    "sums(Tensor x, Tensor? y, Tensor g) -> (Tensor channel, Tensor position, Tensor masked)",
    # The same of x·sign·scale + shift; and the gradients of scale and shift (2, C), for the gates.
    "normalised_sums(Tensor x, Tensor? y, Tensor g, Tensor channel, Tensor position, Tensor? sign, Tensor scale_shift) "
    "-> (Tensor dchannel, Tensor dposition, Tensor masked, Tensor daffine)",
    # Gradient of x: of the gates, g·(channel + position); of statistics `space` over the positions; of `unweighted` and
    # `weighted` ones over the channels, in the rows of one `reduce`. Each if it is given. Where x·sign·scale + shift is
    # the map, still that of x; the statistics over the positions are then those of x·sign.
    "map_backward(Tensor x, Tensor? g, Tensor? channel, Tensor? position, Tensor? space_grads, Tensor? space_values, "
    "Tensor? space_saved, Tensor? weight, Tensor? grads, Tensor? values, Tensor? saved, int space, int unweighted, "
    "int weighted, Tensor? sign=None, Tensor? scale_shift=None) -> Tensor",
)
