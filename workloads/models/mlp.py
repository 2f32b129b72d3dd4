"""All features side by side into one MLP: interactions between features are left to a black-box network.

The article's baseline: logit = MLP(concat(x, e_1, ..., e_N)), x (B, num_dense) taken as it is (or through a bottom
MLP where the spec has one), e_i (B, D_i). The same network as 'dlrm_cat', which asks for a bottom MLP where there are
dense features; tables may differ in dim.
"""

from workloads.models.dlrm_cat import activations_per_sample, build, count_work, dense_parameters

__all__ = ["activations_per_sample", "build", "count_work", "dense_parameters"]
