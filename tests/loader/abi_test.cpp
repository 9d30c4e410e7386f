// SPDX-License-Identifier: Apache-2.0
// The package ABI and tvm-ffi's C API describe the same bytes (loader spec A1).
#include "kernelhub/abi/kernel.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <tvm/ffi/c_api.h>

namespace {

static_assert(sizeof(kh_value) == 16 && sizeof(kh_value) == sizeof(TVMFFIAny));
static_assert(offsetof(kh_value, type) == offsetof(TVMFFIAny, type_index));
static_assert(offsetof(kh_value, aux) == offsetof(TVMFFIAny, zero_padding));
static_assert(offsetof(kh_value, u) == offsetof(TVMFFIAny, v_int64));
static_assert(sizeof(kh_object) == 24 && sizeof(kh_object) == sizeof(TVMFFIObject));
static_assert(offsetof(kh_object, counts) == offsetof(TVMFFIObject, combined_ref_count));
static_assert(offsetof(kh_object, type) == offsetof(TVMFFIObject, type_index));
static_assert(offsetof(kh_object, deleter) == offsetof(TVMFFIObject, deleter));
static_assert(sizeof(kh_bytes) == sizeof(TVMFFIByteArray));
static_assert(offsetof(kh_bytes, size_bytes) == offsetof(TVMFFIByteArray, size));

static_assert(static_cast<int>(KH_NONE) == kTVMFFINone);
static_assert(static_cast<int>(KH_INT) == kTVMFFIInt);
static_assert(static_cast<int>(KH_BOOL) == kTVMFFIBool);
static_assert(static_cast<int>(KH_FLOAT) == kTVMFFIFloat);
static_assert(static_cast<int>(KH_POINTER) == kTVMFFIOpaquePtr);
static_assert(static_cast<int>(KH_DTYPE) == kTVMFFIDataType);
static_assert(static_cast<int>(KH_DEVICE) == kTVMFFIDevice);
static_assert(static_cast<int>(KH_DLTENSOR) == kTVMFFIDLTensorPtr);
static_assert(static_cast<int>(KH_CSTRING) == kTVMFFIRawStr);
static_assert(static_cast<int>(KH_BYTE_ARRAY) == kTVMFFIByteArrayPtr);
static_assert(static_cast<int>(KH_SMALL_STRING) == kTVMFFISmallStr);
static_assert(static_cast<int>(KH_SMALL_BYTES) == kTVMFFISmallBytes);
static_assert(static_cast<int>(KH_OBJECT) == kTVMFFIStaticObjectBegin);
static_assert(static_cast<int>(KH_STRING) == kTVMFFIStr);
static_assert(static_cast<int>(KH_BYTES) == kTVMFFIBytes);
static_assert(static_cast<int>(KH_ERROR) == kTVMFFIError);
static_assert(static_cast<int>(KH_FUNCTION) == kTVMFFIFunction);
static_assert(static_cast<int>(KH_SHAPE) == kTVMFFIShape);
static_assert(static_cast<int>(KH_TENSOR) == kTVMFFITensor);

TEST(Abi, TakesATensorAsViewAndAsObject) {
  struct {
    kh_object head;
    DLTensor tensor;
  } object{};
  kh_value view{KH_DLTENSOR, 0, {}};
  view.u.p = &object.tensor;
  kh_value counted{KH_TENSOR, 0, {}};
  counted.u.p = &object;
  const kh_value number{KH_INT, 0, {}};
  EXPECT_EQ(kh_tensor_of(&view), &object.tensor);
  EXPECT_EQ(kh_tensor_of(&counted), &object.tensor);
  EXPECT_EQ(kh_tensor_of(&number), nullptr);
}

TEST(Abi, ReadsOnlyFieldsInsideTheOtherSize) {
  kh_host host{};
  host.size = offsetof(kh_host, set_error);
  EXPECT_FALSE(KH_HAS(&host, set_error));
  host.size = offsetof(kh_host, current_stream);
  EXPECT_TRUE(KH_HAS(&host, set_error));
  EXPECT_FALSE(KH_HAS(&host, current_stream));
}

}  // namespace
