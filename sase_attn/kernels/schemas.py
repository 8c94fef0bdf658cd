"""The signatures of the operators that both sets of kernels implement, and what each computes.

`cpu.operators` has them as functions, `triton.operators` as operators of torch, `torch.ops.sase_attn.…`. A map
x·sign·scale + shift is never stored: `sign` (C,) and `scale_shift` (2, C) are passed together with x. float64 maps are
processed in float64, all others in float32, which is also the type of all results but maps.
"""

SCHEMAS = (
    # Statistics `unweighted` (bits, see `spec`) of x (B, C, H, W), and `weighted` ones of x·weight (B, C), over the
    # positions (over = 2) or channels (over = 1): rows (statistics, B, C or H·W), and rows for the backward pass.
    "reduce(Tensor x, Tensor? weight, int over, int unweighted, int weighted, Tensor? sign=None, "
    "Tensor? scale_shift=None) -> (Tensor values, Tensor saved)",
    # Gradient (B, C) of the weight, through statistics of x·weight over the channels. Rows of gradients, values and
    # saved ones are those of the weighted statistics only.
    "weight_backward(Tensor x, Tensor weight, Tensor grads, Tensor values, Tensor saved, int weighted) -> Tensor",
    # Gradients of scale and shift (2, C) and of the weight (B, C; no elements without one), through statistics over the
    # channels of x·sign·scale + shift. The rows are those of one call of `reduce`.
    "channels_backward(Tensor x, Tensor? weight, Tensor grads, Tensor values, Tensor saved, int unweighted, "
    "int weighted, Tensor? sign, Tensor scale_shift) -> (Tensor daffine, Tensor dweight)",
    # x·(channel + position) + shortcut, through a ReLU if `relu`, for gates (B, C) and (B, H·W).
    "gate(Tensor x, Tensor channel, Tensor position, Tensor? shortcut, bool relu, Tensor? sign=None, "
    "Tensor? scale_shift=None) -> Tensor",
    # Sums of g·x over the positions (B, C) and over the channels (B, H·W); and g, set to 0 where the ReLU's output y is
    # 0 (empty without y).
    "sums(Tensor x, Tensor? y, Tensor g) -> (Tensor channel, Tensor position, Tensor masked)",
    # The same for x·sign·scale + shift; and the gradients of scale and shift (2, C) through the gates.
    "normalised_sums(Tensor x, Tensor? y, Tensor g, Tensor channel, Tensor position, Tensor? sign, Tensor scale_shift) "
    "-> (Tensor dchannel, Tensor dposition, Tensor masked, Tensor daffine)",
    # Gradient of x, through what is given of: the gates, g·(channel + position); the statistics `space` over the
    # positions; those `unweighted` and `weighted` over the channels, with the rows of one call of `reduce`. For a map
    # x·sign·scale + shift, it is still the gradient of x, and the statistics over the positions are those of x·sign.
    "map_backward(Tensor x, Tensor? g, Tensor? channel, Tensor? position, Tensor? space_grads, Tensor? space_values, "
    "Tensor? space_saved, Tensor? weight, Tensor? grads, Tensor? values, Tensor? saved, int space, int unweighted, "
    "int weighted, Tensor? sign=None, Tensor? scale_shift=None) -> Tensor",
)
