// SPDX-License-Identifier: Apache-2.0
// Tensors of torch -> TensorArg, new ones for results, and torch's thread pool and streams for
// compute code.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/stableivalue_conversions.h>
#include <torch/csrc/stable/tensor.h>

#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>

#include "primitives/parallel_for.h"
#include "primitives/tensor_check.h"

namespace kernelhub::primitives {

struct DeleteTensor {
  void operator()(AtenTensorHandle tensor) const {
    TORCH_ERROR_CODE_CHECK(aoti_torch_delete_tensor_object(tensor));
  }
};
/// A tensor that an op owns: the handle that torch passes it, or one that it returns. Unlike
/// torch::stable::Tensor it allocates no count to share it by.
using TensorHandle = std::unique_ptr<AtenTensorOpaque, DeleteTensor>;

/// What an op returns of a tensor: torch takes the handle over from it as it does from the stack.
struct TensorResult {
  TensorResult(TensorHandle tensor) : handle(tensor.release()) {}

  AtenTensorHandle handle;
};

/// Numbers that torch gives to dtypes and device types: a package asks for each once.
struct TorchNumbers {
  std::int32_t cpu = aoti_torch_device_type_cpu();
  std::int32_t cuda = aoti_torch_device_type_cuda();
  struct {
    std::int32_t number;
    DTypeCode code;
  } dtypes[12] = {
      {aoti_torch_dtype_float32(), {DTypeCode::kFloat, 32, 1}},
      {aoti_torch_dtype_bfloat16(), {DTypeCode::kBFloat, 16, 1}},
      {aoti_torch_dtype_float16(), {DTypeCode::kFloat, 16, 1}},
      {aoti_torch_dtype_int64(), {DTypeCode::kInt, 64, 1}},
      {aoti_torch_dtype_int32(), {DTypeCode::kInt, 32, 1}},
      {aoti_torch_dtype_float64(), {DTypeCode::kFloat, 64, 1}},
      {aoti_torch_dtype_uint8(), {DTypeCode::kUInt, 8, 1}},
      {aoti_torch_dtype_int8(), {DTypeCode::kInt, 8, 1}},
      {aoti_torch_dtype_int16(), {DTypeCode::kInt, 16, 1}},
      {aoti_torch_dtype_bool(), {DTypeCode::kBool, 8, 1}},
      {aoti_torch_dtype_complex64(), {DTypeCode::kComplex, 64, 1}},
      {aoti_torch_dtype_complex128(), {DTypeCode::kComplex, 128, 1}},
  };
};

inline const TorchNumbers& torch_numbers() {
  static const TorchNumbers numbers;
  return numbers;
}

/// DLPack's code of the dtype that torch knows by `number`.
inline DTypeCode dtype_code(std::int32_t number) {
  for (const auto& dtype : torch_numbers().dtypes) {
    if (dtype.number == number) return dtype.code;
  }
  return {DTypeCode::kOther, 0, 1};
}

inline DTypeCode dtype_code(torch::headeronly::ScalarType type) {
  return dtype_code(torch::stable::detail::to<std::int32_t>(torch::stable::detail::from(type)));
}

/// torch's number of a dtype.
inline std::int32_t dtype_number(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return aoti_torch_dtype_float32();
    case DType::kBFloat16:
      return aoti_torch_dtype_bfloat16();
    case DType::kFloat16:
      return aoti_torch_dtype_float16();
    case DType::kFloat64:
      break;
  }
  return aoti_torch_dtype_float64();
}

/// Borrows the tensor's memory; the result must not outlive the call. `data` may be written only
/// for arguments that the schema marks with `!`.
inline TensorArg tensor_arg(const char* name, AtenTensorHandle tensor) {
  void* data = nullptr;
  std::int64_t rank = 0;
  std::int64_t* sizes = nullptr;
  std::int64_t* strides = nullptr;
  std::int32_t dtype = 0;
  std::int32_t type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(tensor, &data));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dim(tensor, &rank));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_sizes(tensor, &sizes));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_strides(tensor, &strides));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor, &dtype));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor, &type));
  std::int32_t device_type = kCpuDevice;
  std::int32_t device_index = 0;
  if (type != torch_numbers().cpu) {
    device_type = type == torch_numbers().cuda ? kCudaDevice : -1;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor, &device_index));
  }
  const auto count = static_cast<std::size_t>(rank);
  return {name,         data,           dtype_code(dtype), device_type,
          device_index, {sizes, count}, {strides, count},  nullptr};
}

inline TensorArg tensor_arg(const char* name, const TensorHandle& tensor) {
  return tensor_arg(name, tensor.get());
}
inline TensorArg tensor_arg(const char* name, const torch::stable::Tensor& tensor) {
  return tensor_arg(name, tensor.get());
}

/// `Tensor` is one of those.
template <class Tensor>
std::optional<TensorArg> optional_arg(const char* name, const std::optional<Tensor>& tensor) {
  if (!tensor.has_value()) return std::nullopt;
  return tensor_arg(name, *tensor);
}

/// A tensor argument of any layout as a contiguous one: itself, or a copy that lives as long as
/// this.
class ContiguousArg {
 public:
  ContiguousArg(const char* name, const TensorHandle& tensor)
      : arg_(tensor_arg(name, tensor.get())) {
    if (!is_contiguous()) copy(tensor.get());
  }
  /// Null where the call brings none.
  ContiguousArg(const char* name, const std::optional<TensorHandle>& tensor)
      : arg_(tensor.has_value() ? tensor_arg(name, tensor->get()) : TensorArg{}),
        is_given_(tensor.has_value()) {
    if (is_given_ && !is_contiguous()) copy(tensor->get());
  }

  const TensorArg& operator*() const { return arg_; }
  const TensorArg* get() const { return is_given_ ? &arg_ : nullptr; }

 private:
  bool is_contiguous() const {
    std::int64_t stride = 1;
    for (std::size_t i = arg_.sizes.size(); i-- > 0;) {
      if (arg_.sizes[i] == 0) return true;
      if (arg_.sizes[i] != 1 && arg_.strides[i] != stride) return false;
      stride *= arg_.sizes[i];
    }
    return true;
  }
  void copy(AtenTensorHandle tensor) {
    AtenTensorHandle shared = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_new_tensor_handle(tensor, &shared));
    copy_ = torch::stable::contiguous(torch::stable::Tensor(shared));
    arg_ = tensor_arg(arg_.name, *copy_);
  }

  std::optional<torch::stable::Tensor> copy_;
  TensorArg arg_;
  bool is_given_ = true;
};

/// A str argument. What torch's headers make of one, a std::string, is a copy that nobody frees.
class Text {
 public:
  explicit Text(StringHandle handle) : handle_(handle, &release) {}

  std::string_view view() const {
    std::size_t length = 0;
    const char* data = nullptr;
    TORCH_ERROR_CODE_CHECK(torch_string_length(handle_.get(), &length));
    TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle_.get(), &data));
    return {data, length};
  }

 private:
  static void release(StringHandle handle) { torch_delete_string(handle); }

  std::unique_ptr<std::remove_pointer_t<StringHandle>, void (*)(StringHandle)> handle_;
};

/// A new contiguous tensor on the device of `like`, of the dtype that torch knows by `dtype`. Of
/// host memory it comes without a passage through the dispatcher, which takes longer than a small
/// call's work.
inline TensorHandle new_tensor(const TensorArg& like, Extents sizes, std::int32_t dtype) {
  constexpr std::size_t kUsualRank = 8;
  std::int64_t usual[kUsualRank];
  std::unique_ptr<std::int64_t[]> unusual(sizes.size() > kUsualRank ? new std::int64_t[sizes.size()]
                                                                    : nullptr);
  std::int64_t* strides = unusual == nullptr ? usual : unusual.get();
  std::int64_t stride = 1;
  for (std::size_t i = sizes.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= sizes[i] > 1 ? sizes[i] : 1;
  }
  const bool is_on_host = like.device_type == kCpuDevice;
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<std::int64_t>(sizes.size()), sizes.begin(), strides, dtype,
      is_on_host ? torch_numbers().cpu : torch_numbers().cuda, like.device_index, &handle));
  return TensorHandle(handle);
}
inline TensorHandle new_tensor(const TensorArg& like, Extents sizes, DType dtype) {
  return new_tensor(like, sizes, dtype_number(dtype));
}

/// Where a tensor's elements start; may be null where it has none.
inline void* data_of(const TensorHandle& tensor) {
  void* data = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(tensor.get(), &data));
  return data;
}

/// torch's own intra-op pool: `torch.set_num_threads` holds for the kernels too.
inline ParallelFor torch_parallel_for() {
  return {[](std::int64_t begin, std::int64_t end, std::int64_t grain, ParallelFor::Body body,
             void* context) {
    torch::stable::parallel_for(
        begin, end, grain,
        [body, context](std::int64_t first, std::int64_t last) { body(context, first, last); });
  }};
}

}  // namespace kernelhub::primitives

// So that ops may take primitives::Text and primitives::TensorHandle.
template <>
struct torch::stable::detail::ToImpl<kernelhub::primitives::Text> {
  static kernelhub::primitives::Text call(StableIValue value, std::uint64_t version,
                                          bool internal) {
    return kernelhub::primitives::Text(ToImpl<StringHandle>::call(value, version, internal));
  }
};
template <>
struct torch::stable::detail::ToImpl<kernelhub::primitives::TensorHandle> {
  static kernelhub::primitives::TensorHandle call(StableIValue value, std::uint64_t version,
                                                  bool internal) {
    return kernelhub::primitives::TensorHandle(
        ToImpl<AtenTensorHandle>::call(value, version, internal));
  }
};
template <>
struct torch::stable::detail::ToImpl<std::optional<kernelhub::primitives::TensorHandle>> {
  static std::optional<kernelhub::primitives::TensorHandle> call(StableIValue value,
                                                                 std::uint64_t version,
                                                                 bool internal) {
    const std::unique_ptr<StableIValue> given(
        ToImpl<StableIValue*>::call(value, version, internal));
    if (given == nullptr) return std::nullopt;
    return ToImpl<kernelhub::primitives::TensorHandle>::call(*given, version, internal);
  }
};
