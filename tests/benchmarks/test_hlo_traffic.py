"""Bytes of an optimised program, against what can be counted by hand."""

# ruff: noqa: E501 (a program as XLA writes it)

import pytest

hlo_traffic = pytest.importorskip("hlo_traffic", reason="the benchmarks are not beside the tests")

# As XLA writes programs for GPUs; shapes chosen so that every kernel moves another number of bytes.
_PROGRAM = """HloModule jit_call, is_scheduled=true

%fused_gather (param_0: f32[1000,16], param_1: s32[4,1]) -> f32[4,1,16] {
  %param_0 = f32[1000,16]{1,0} parameter(0)
  %param_1 = s32[4,1]{1,0} parameter(1)
  ROOT %gather.1 = f32[4,1,16]{2,1,0} gather(%param_0, %param_1), offset_dims={1,2}, slice_sizes={1,16}
}

%fused_write (param_0.1: f32[50,8], param_1.1: f32[1,8], param_2: s32[]) -> f32[50,8] {
  %param_0.1 = f32[50,8]{1,0} parameter(0)
  %param_1.1 = f32[1,8]{1,0} parameter(1)
  %param_2 = s32[] parameter(2)
  %constant.1 = s32[] constant(0)
  ROOT %dynamic_update_slice.1 = f32[50,8]{1,0} dynamic-update-slice(%param_0.1, %param_1.1, %param_2, %constant.1), metadata={op_name="jit(call)/while"}
}

%fused_add (param_0.2: bf16[7,3], param_1.2: pred[7,3]) -> (bf16[7,3], f32[3]) {
  %param_0.2 = bf16[7,3]{1,0} parameter(0)
  %param_1.2 = pred[7,3]{1,0} parameter(1)
  %select.1 = bf16[7,3]{1,0} select(%param_1.2, %param_0.2, %param_0.2)
  %reduce.1 = f32[3]{0} reduce(%select.1, %param_0.2), dimensions={0}, to_apply=%add
  ROOT %tuple.1 = (bf16[7,3]{1,0}, f32[3]{0}) tuple(%select.1, %reduce.1)
}

%gemm_fusion_dot_computation (param_0.3: f32[50,8], param_1.3: f32[1,8]) -> f32[8,50] {
  %param_0.3 = f32[50,8]{1,0} parameter(0)
  %param_1.3 = f32[1,8]{1,0} parameter(1)
  ROOT %dot.1 = f32[8,50]{1,0} dot(%param_1.3, %param_0.3), lhs_contracting_dims={0}
}

%fused_sum (param_0.4: f32[8,50]) -> f32[8] {
  %param_0.4 = f32[8,50]{1,0} parameter(0)
  %constant.2 = f32[] constant(0)
  ROOT %reduce.2 = f32[8]{0} reduce(%param_0.4, %constant.2), dimensions={1}, to_apply=%add
}

%body (arguments: (f32[1000,16], s32[4,1])) -> (f32[1000,16], s32[4,1]) {
  %arguments = (f32[1000,16]{1,0}, s32[4,1]{1,0}) parameter(0)
  %rows = f32[1000,16]{1,0} get-tuple-element(%arguments), index=0
  %indexes = s32[4,1]{1,0} get-tuple-element(%arguments), index=1
  %log = f32[50,8]{1,0} get-tuple-element(%arguments), index=2
  %line = f32[1,8]{1,0} get-tuple-element(%arguments), index=3
  %number = s32[] get-tuple-element(%arguments), index=4
  %x = bf16[2,8,8,4]{3,2,1,0} get-tuple-element(%arguments), index=5
  %kernel = bf16[6,3,3,4]{3,2,1,0} get-tuple-element(%arguments), index=6
  %picked = f32[4,1,16]{2,1,0} fusion(%rows, %indexes), kind=kLoop, calls=%fused_gather
  %written = f32[50,8]{1,0} fusion(%log, %line, %number), kind=kLoop, calls=%fused_write
  %half = bf16[7,3]{1,0} get-tuple-element(%arguments), index=7
  %mask = pred[7,3]{1,0} get-tuple-element(%arguments), index=8
  %added = (bf16[7,3]{1,0}, f32[3]{0}) fusion(%half, %mask), kind=kInput, calls=%fused_add
  %conv = (bf16[2,8,8,6]{3,2,1,0}, u8[4096]{0}) custom-call(%x, %kernel), window={size=3x3}, custom_call_target="__cudnn$convForward", metadata={op_name="jit(call)/while"}
  %product = (f32[5,7]{1,0}, s8[64]{0}) custom-call(%rows, %line), custom_call_target="__cublas$lt$matmul"
  %gemm_fusion_dot = f32[8,50]{1,0} fusion(%log, %line), kind=kCustom, calls=%gemm_fusion_dot_computation, backend_config={"kind":"__triton_nested_gemm_fusion"}
  %next = f32[8]{0} fusion(%gemm_fusion_dot), kind=kLoop, calls=%fused_sum
  %begun = f32[9]{0} all-reduce-start(%line), to_apply=%add
  %ended = f32[9]{0} all-reduce-done(%begun)
  ROOT %result = (f32[1000,16]{1,0}, s32[4,1]{1,0}) tuple(%rows, %indexes)
}

ENTRY %main (arguments.1: f32[1000,16]) -> f32[1000,16] {
  ROOT %arguments.1 = f32[1000,16]{1,0} parameter(0)
}
"""

_BY_HAND = [
    ("fused loop", 4 * 16 * 4 + 4 * 4 + 4 * 16 * 4),  # Four rows of a thousand, not all of them.
    ("fused loop", 8 * 4 + 4 + 8 * 4),  # One row of fifty.
    ("fused loop", (7 * 3 * 2 + 7 * 3) + (7 * 3 * 2 + 3 * 4)),
    ("convolution", 2 * (2 * 8 * 8 * 4 + 6 * 3 * 3 * 4 + 2 * 8 * 8 * 6)),  # No workspace.
    ("matrix product", 4 * (1000 * 16 + 8 + 5 * 7)),  # Likewise.
    ("matrix product", 4 * (50 * 8 + 8 + 8 * 50)),
    ("fused loop", 4 * (8 * 50 + 8)),  # Though it reads what a product has made.
    ("collective", 4 * (8 + 9)),  # Begun and ended: once.
]


def test_kernels_and_bytes_are_those_counted_by_hand():
    program = hlo_traffic.computations(_PROGRAM)
    step = hlo_traffic.loop_of_steps(program)
    assert step is program["body"]
    assert list(hlo_traffic.kernels(step, program)) == _BY_HAND
