// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"
#include "kernelhub/layers/kernel_mapping.h"

#include <string>
#include <string_view>
#include <vector>

/// One factory per failure of kernelize and of bound calls; each takes facts. `source` names a
/// package, `layer` a layer in it.
namespace kernelhub::layers::modules_errors {

LayerError no_model_device();
LayerError lookup_missed(LookupMiss miss, std::string_view layer_name, std::string_view device,
                         Mode mode);
LayerError broken_promise(std::string_view source, std::string_view layer, Mode entry,
                          bool can_torch_compile, bool has_backward);
LayerError mode_unsupported(std::string_view source, std::string_view layer, Mode mode);
LayerError no_native_layer(std::string_view source, std::string_view layer,
                           const std::vector<std::string>& known);
LayerError forward_differs(std::string_view source, std::string_view layer,
                           std::string_view binding, std::string_view module);
/// `path`: field of the binding, "call.args[2]".
LayerError bad_binding(std::string_view source, std::string_view layer, std::string_view path,
                       std::string_view expected, std::string_view found);
LayerError missing_input(std::string_view source, std::string_view layer, std::string_view kind,
                         std::string_view name, const std::vector<std::string>& known);
LayerError wrong_attr_type(std::string_view source, std::string_view layer, std::string_view name,
                           std::string_view expected, std::string_view found);
/// Text of the error of autograd that a second derivative gets.
std::string no_second_derivative(std::string_view source, std::string_view layer);
LayerError guard_not_met(std::string_view source, std::string_view layer, std::string_view reason);
LayerError unknown_attention(std::string_view name, const std::vector<std::string>& known);
/// `what`: argument of the call of attention function `function`.
LayerError bad_attention_call(std::string_view function, std::string_view what,
                              std::string_view expected, std::string_view found);
/// `schema` is that of an op in package `source`.
LayerError unusable_attention_op(std::string_view source, std::string_view schema,
                                 std::string_view expected);
LayerError attention_lacks(std::string_view function, std::string_view feature);

}  // namespace kernelhub::layers::modules_errors
