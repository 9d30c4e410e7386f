// SPDX-License-Identifier: Apache-2.0
// What version 2 of the demo's activation has over version 1: squared_relu(x) = max(x, 0)^2 for
// contiguous fp32 CPU tensors (So et al., Primer, arXiv:2109.08668).
#include "registration.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

namespace {

void squared_relu(torch::stable::Tensor out, torch::stable::Tensor input) {
  STD_TORCH_CHECK(input.scalar_type() == torch::headeronly::ScalarType::Float &&
                      out.scalar_type() == input.scalar_type() && input.is_contiguous() &&
                      out.is_contiguous() && out.numel() == input.numel(),
                  "activation.squared_relu: expected contiguous fp32 tensors of equal size");
  const auto* in = static_cast<const float*>(input.data_ptr());
  auto* result = static_cast<float*>(out.data_ptr());
  for (int64_t i = 0; i < input.numel(); ++i) {
    const float positive = in[i] < 0.0F ? 0.0F : in[i];
    result[i] = positive * positive;
  }
}

}  // namespace

#define EXPANDED_FRAGMENT(NAME, MODULE) STABLE_TORCH_LIBRARY_FRAGMENT(NAME, MODULE)
EXPANDED_FRAGMENT(TORCH_EXTENSION_NAME, m) {
  m.def("squared_relu(Tensor! out, Tensor input) -> ()");
}
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, m) {
  m.impl("squared_relu", TORCH_BOX(&squared_relu));
}
