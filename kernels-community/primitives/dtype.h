// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace kernelhub::primitives {

/// Element types that compute code knows. Accumulation is fp32, and fp64 for kFloat64.
enum class DType : std::int32_t { kFloat32, kFloat16, kBFloat16, kFloat64 };

/// Kind letters of DLPack (`DLDataTypeCode`), so that every binding describes dtypes alike.
struct DTypeCode {
  enum Kind : std::uint8_t {
    kInt = 0,
    kUInt = 1,
    kFloat = 2,
    kBFloat = 4,
    kComplex = 5,
    kBool = 6,
    kOther = 255,
  };
  std::uint8_t kind;
  std::uint8_t bits;
  std::uint16_t lanes;

  friend bool operator==(DTypeCode a, DTypeCode b) {
    return a.kind == b.kind && a.bits == b.bits && a.lanes == b.lanes;
  }
  friend bool operator!=(DTypeCode a, DTypeCode b) { return !(a == b); }
};

/// Size of one element in bytes.
constexpr std::int64_t size_of(DType dtype) {
  return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2;
}

/// "bfloat16", "int64"; "unsupported dtype" for what has no common name.
inline std::string dtype_name(DTypeCode code) {
  const std::string bits = std::to_string(code.bits);
  const std::string lanes = code.lanes == 1 ? "" : "x" + std::to_string(code.lanes);
  switch (code.kind) {
    case DTypeCode::kInt:
      return "int" + bits + lanes;
    case DTypeCode::kUInt:
      return "uint" + bits + lanes;
    case DTypeCode::kFloat:
      return "float" + bits + lanes;
    case DTypeCode::kBFloat:
      return "bfloat" + bits + lanes;
    case DTypeCode::kComplex:
      return "complex" + bits + lanes;
    case DTypeCode::kBool:
      return "bool" + lanes;
    default:
      return "unsupported dtype";
  }
}

}  // namespace kernelhub::primitives
