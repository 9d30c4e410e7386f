// SPDX-License-Identifier: Apache-2.0
#include "kernelhub/torch/tensor_view.h"

#include "torch_errors.h"

#include <array>
#include <string>

namespace kernelhub {
namespace {

/// By scalar type; 0 bits where DLPack has no code.
constexpr auto kDtypes = [] {
  std::array<DLDataType, static_cast<std::size_t>(at::ScalarType::NumOptions) + 1> table{};
  const auto set = [&](at::ScalarType type, DLDataTypeCode code, std::uint8_t bits) {
    table[static_cast<std::size_t>(type)] = {static_cast<std::uint8_t>(code), bits, 1};
  };
  set(at::kByte, kDLUInt, 8);
  set(at::kUInt16, kDLUInt, 16);
  set(at::kUInt32, kDLUInt, 32);
  set(at::kUInt64, kDLUInt, 64);
  set(at::kChar, kDLInt, 8);
  set(at::kShort, kDLInt, 16);
  set(at::kInt, kDLInt, 32);
  set(at::kLong, kDLInt, 64);
  set(at::kHalf, kDLFloat, 16);
  set(at::kFloat, kDLFloat, 32);
  set(at::kDouble, kDLFloat, 64);
  set(at::kBFloat16, kDLBfloat, 16);
  set(at::kBool, kDLBool, 8);
  set(at::kComplexHalf, kDLComplex, 32);
  set(at::kComplexFloat, kDLComplex, 64);
  set(at::kComplexDouble, kDLComplex, 128);
  set(at::kFloat8_e4m3fn, kDLFloat8_e4m3fn, 8);
  set(at::kFloat8_e4m3fnuz, kDLFloat8_e4m3fnuz, 8);
  set(at::kFloat8_e5m2, kDLFloat8_e5m2, 8);
  set(at::kFloat8_e5m2fnuz, kDLFloat8_e5m2fnuz, 8);
  set(at::kFloat8_e8m0fnu, kDLFloat8_e8m0fnu, 8);
  return table;
}();

/// By device type; 0 where DLPack has no code.
constexpr auto kDevices = [] {
  std::array<int, static_cast<std::size_t>(c10::COMPILE_TIME_MAX_DEVICE_TYPES)> table{};
  const auto set = [&](c10::DeviceType type, DLDeviceType code) {
    table[static_cast<std::size_t>(type)] = code;
  };
  set(c10::kCPU, kDLCPU);
  set(c10::kCUDA, kDLCUDA);
  set(c10::kHIP, kDLROCM);
  set(c10::kXPU, kDLOneAPI);
  set(c10::kMPS, kDLMetal);
  set(c10::kPrivateUse1, kDLExtDev);
  return table;
}();

DLDataType dl_dtype(const at::Tensor& tensor) {
  return kDtypes[static_cast<std::size_t>(tensor.scalar_type())];
}

/// What is wrong with a tensor that has no view.
std::string rejection(const at::Tensor& tensor) {
  if (!tensor.defined()) return "an undefined tensor";
  if (tensor.is_meta()) return "a meta tensor";
  if (tensor.is_nested()) return "a nested tensor";
  if (tensor.layout() != at::kStrided) return "a sparse tensor";
  if (tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides()) return "a symbolic shape";
  if (!tensor.has_storage()) return "a tensor without memory";
  if (tensor.is_conj()) return "a lazily conjugated tensor; call resolve_conj first";
  if (tensor.is_neg()) return "a lazily negated tensor; call resolve_neg first";
  if (dl_dtype(tensor).bits == 0) {
    return std::string("dtype ") + c10::toString(tensor.scalar_type()) + ", unknown to DLPack";
  }
  return "device " + tensor.device().str() + ", unknown to DLPack";
}

/// Keys of tensors that are more, or less, than their memory.
constexpr c10::DispatchKeySet kSpecialKeys({c10::DispatchKey::Conjugate, c10::DispatchKey::Negative,
                                            c10::DispatchKey::NestedTensor});

}  // namespace

TensorView::TensorView(const at::Tensor& tensor, std::size_t argument) {
  const c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  const c10::Device device = tensor.defined() ? tensor.device() : c10::Device(c10::kMeta);
  tensor_.dtype = dl_dtype(tensor);
  const int device_type = kDevices[static_cast<std::size_t>(device.type())];
  if (tensor_.dtype.bits == 0 || device_type == 0 || impl->key_set().has_any(kSpecialKeys) ||
      tensor.layout() != at::kStrided || impl->has_symbolic_sizes_strides() || !impl->has_storage())
      [[unlikely]] {
    throw torch_errors::bad_tensor(argument, rejection(tensor));
  }
  tensor_.data = tensor.mutable_data_ptr();
  tensor_.device = {static_cast<DLDeviceType>(device_type),
                    device.has_index() ? device.index() : 0};
  tensor_.ndim = static_cast<std::int32_t>(tensor.dim());
  // DLPack has no const; a callee only reads them.
  tensor_.shape = const_cast<std::int64_t*>(tensor.sizes().data());
  tensor_.strides = const_cast<std::int64_t*>(tensor.strides().data());
  tensor_.byte_offset = 0;
}

}  // namespace kernelhub
