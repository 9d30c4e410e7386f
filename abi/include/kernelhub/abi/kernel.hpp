// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/abi/package.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

/// Author's side of package.h in C++17: typed functions become `__tvm_ffi_<name>` exports and rows
/// of the descriptor. Needs no library. In the one source that holds a package's exports:
///
///   #include "kernelhub/abi/kernel.hpp"
///   void scale(DLTensor* out, const DLTensor* x, double factor);   // throws std::invalid_argument
///
///   KERNELHUB_FUNCTION(scale, scale, "scale(Tensor! out, Tensor x, float factor) -> ()")
///   KERNELHUB_PACKAGE(KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME), "my-scale", 1, "cpu",
///                     KH_THREAD_SAFE, KERNELHUB_ROW(scale))
///
/// Parameters: std::int64_t, int, double, float, bool, DLTensor*, const DLTensor* (never null),
/// std::string_view (valid during the call), DLDataType, DLDevice, and std::optional of each.
/// Results: void, std::int64_t, double, bool.
/// Errors: an Exception keeps its kind, std::invalid_argument is a ValueError, an argument of
/// another type or number a TypeError, every other exception a RuntimeError.
namespace kernelhub::abi {

/// An error with the name of a Python exception type ("NotImplementedError").
class Exception : public std::runtime_error {
 public:
  Exception(const char* kind, const std::string& message)
      : std::runtime_error(message), kind_(kind) {}
  const char* kind() const noexcept { return kind_; }

 private:
  const char* kind_;
};

namespace detail {
// Hidden, so that no copy is shared between packages (STB_GNU_UNIQUE).
__attribute__((visibility("hidden"))) inline const kh_host* attached_host = nullptr;
}  // namespace detail

/// Services of the host; null when the package was loaded by something that has none, such as the
/// Python tvm-ffi module. Same in every source of the package.
inline const kh_host* host() noexcept { return detail::attached_host; }

namespace detail {

template <class T>
struct Argument;  // one specialisation per parameter type: kExpected and read()

template <>
struct Argument<std::int64_t> {
  static constexpr const char* kExpected = "int";
  static bool read(const kh_value& value, std::int64_t& out) {
    out = value.u.i;
    return value.type == KH_INT || value.type == KH_BOOL;
  }
};

template <>
struct Argument<int> {
  static constexpr const char* kExpected = "int of 32 bits";
  static bool read(const kh_value& value, int& out) {
    out = static_cast<int>(value.u.i);
    return (value.type == KH_INT || value.type == KH_BOOL) && out == value.u.i;
  }
};

template <>
struct Argument<bool> {
  static constexpr const char* kExpected = "bool";
  static bool read(const kh_value& value, bool& out) {
    out = value.u.i != 0;
    return value.type == KH_BOOL || value.type == KH_INT;
  }
};

template <>
struct Argument<double> {
  static constexpr const char* kExpected = "float";
  static bool read(const kh_value& value, double& out) {
    out = value.type == KH_FLOAT ? value.u.f : static_cast<double>(value.u.i);
    return value.type == KH_FLOAT || value.type == KH_INT || value.type == KH_BOOL;
  }
};

template <>
struct Argument<float> {
  static constexpr const char* kExpected = "float";
  static bool read(const kh_value& value, float& out) {
    double wide = 0;
    const bool fits = Argument<double>::read(value, wide);
    out = static_cast<float>(wide);
    return fits;
  }
};

template <>
struct Argument<DLTensor*> {
  static constexpr const char* kExpected = "tensor";
  static bool read(const kh_value& value, DLTensor*& out) {
    out = kh_tensor_of(&value);
    return out != nullptr;
  }
};

template <>
struct Argument<const DLTensor*> {
  static constexpr const char* kExpected = "tensor";
  static bool read(const kh_value& value, const DLTensor*& out) {
    out = kh_tensor_of(&value);
    return out != nullptr;
  }
};

template <>
struct Argument<std::string_view> {
  static constexpr const char* kExpected = "str";
  static bool read(const kh_value& value, std::string_view& out) {
    if (value.type == KH_CSTRING && value.u.s != nullptr) {
      out = value.u.s;
    } else if (value.type == KH_SMALL_STRING && value.aux <= sizeof(value.u)) {
      out = {reinterpret_cast<const char*>(&value.u), value.aux};
    } else if (value.type == KH_STRING && value.u.p != nullptr) {
      const auto* text = reinterpret_cast<const kh_bytes*>(static_cast<kh_object*>(value.u.p) + 1);
      out = {text->data, text->size_bytes};
    } else {
      return false;
    }
    return true;
  }
};

template <>
struct Argument<DLDataType> {
  static constexpr const char* kExpected = "dtype";
  static bool read(const kh_value& value, DLDataType& out) {
    out = value.u.dtype;
    return value.type == KH_DTYPE;
  }
};

template <>
struct Argument<DLDevice> {
  static constexpr const char* kExpected = "device";
  static bool read(const kh_value& value, DLDevice& out) {
    out = value.u.device;
    return value.type == KH_DEVICE;
  }
};

inline void store(kh_value& result, std::int64_t value) {
  result.type = KH_INT;
  result.u.i = value;
}
inline void store(kh_value& result, double value) {
  result.type = KH_FLOAT;
  result.u.f = value;
}
inline void store(kh_value& result, bool value) {
  result.type = KH_BOOL;
  result.u.i = value ? 1 : 0;
}

// snprintf, not std::to_string: the digit table of the latter is a symbol that the dynamic linker
// shares between packages.
[[noreturn]] inline void wrong_count(const char* name, std::size_t wanted, std::int32_t found) {
  char text[64];
  std::snprintf(text, sizeof text, ": expected %zu arguments, found %d", wanted, found);
  throw Exception("TypeError", std::string(name) + text);
}

[[noreturn]] inline void wrong_type(const char* name, std::size_t index, const char* expected,
                                    std::int32_t found) {
  char text[96];
  std::snprintf(text, sizeof text, ": argument %zu: expected %s, found type code %d", index,
                expected, found);
  throw Exception("TypeError", std::string(name) + text);
}

template <class T>
constexpr bool kIsOptional = false;
template <class T>
constexpr bool kIsOptional<std::optional<T>> = true;

template <class T>
auto read_argument(const char* name, std::size_t index, const kh_value& value)
    -> std::enable_if_t<!kIsOptional<T>, T> {
  T out{};
  if (!Argument<T>::read(value, out)) {
    wrong_type(name, index, Argument<T>::kExpected, value.type);
  }
  return out;
}

/// An optional is made where it stays: a copy right after it would wait for its two parts to reach
/// memory, which takes longer than all the rest.
template <class T>
auto read_argument(const char* name, std::size_t index, const kh_value& value)
    -> std::enable_if_t<kIsOptional<T>, T> {
  if (value.type == KH_NONE) return std::nullopt;
  return read_argument<typename T::value_type>(name, index, value);
}

template <class R, class... Args, std::size_t... kIndex>
void invoke(R (*function)(Args...), const char* name, const kh_value* args, kh_value* result,
            std::index_sequence<kIndex...>) {
  // Braces fix the order: the first wrong argument is the one that is named.
  const std::tuple<std::decay_t<Args>...> values{
      read_argument<std::decay_t<Args>>(name, kIndex, args[kIndex])...};
  if constexpr (std::is_void_v<R>) {
    function(std::get<kIndex>(values)...);
  } else {
    store(*result, function(std::get<kIndex>(values)...));
  }
}

/// The C form of a typed function; no exception leaves it.
template <class R, class... Args>
int call(R (*function)(Args...), const char* name, const kh_value* args, std::int32_t nargs,
         kh_value* result) noexcept {
  try {
    if (nargs != static_cast<std::int32_t>(sizeof...(Args))) {
      wrong_count(name, sizeof...(Args), nargs);
    }
    invoke(function, name, args, result, std::index_sequence_for<Args...>{});
    return 0;
  } catch (const Exception& error) {
    return kh_fail(attached_host, error.kind(), error.what());
  } catch (const std::invalid_argument& error) {
    return kh_fail(attached_host, "ValueError", error.what());
  } catch (const std::exception& error) {
    return kh_fail(attached_host, "RuntimeError", error.what());
  } catch (...) {
    return kh_fail(attached_host, "RuntimeError", "exception of a type outside std::exception");
  }
}

inline int attach(const kh_host* given) noexcept {
  attached_host = given;
  return 0;
}

inline int detach() noexcept {
  attached_host = nullptr;
  return 0;
}

}  // namespace detail
}  // namespace kernelhub::abi

#define KERNELHUB_STRING_(text) #text
/// String of a macro's value: KERNELHUB_STRING(TVM_FFI_EXTENSION_NAME).
#define KERNELHUB_STRING(text) KERNELHUB_STRING_(text)

/// Exports `function` (a function or an overload-free pointer to one) as `__tvm_ffi_<name>`.
/// `schema`: torch schema string. At global scope, in the source that has KERNELHUB_PACKAGE.
#define KERNELHUB_FUNCTION(name, function, schema)                                      \
  extern "C" KH_EXPORT int __tvm_ffi_##name(void*, const kh_value* args, int32_t nargs, \
                                            kh_value* result) {                         \
    return ::kernelhub::abi::detail::call(function, #name, args, nargs, result);        \
  }                                                                                     \
  static constexpr const char* kernelhub_schema_##name = schema;

/// Row of the descriptor for a function exported above.
#define KERNELHUB_ROW(name) \
  kh_function { #name, &__tvm_ffi_##name, kernelhub_schema_##name, 0 }

/// Exports the descriptor. `id`, `name` and `backend` are string literals and, like `version`,
/// equal those of metadata.json; `package_flags` is a sum of KH_* flags; then one KERNELHUB_ROW
/// per function.
#define KERNELHUB_PACKAGE(package_id, package_name, package_version, package_backend,      \
                          package_flags, ...)                                              \
  static const kh_function kernelhub_functions[] = {__VA_ARGS__};                          \
  static const kh_package kernelhub_descriptor = {                                         \
      sizeof(kh_package),                                                                  \
      KERNELHUB_ABI,                                                                       \
      package_id,                                                                          \
      package_name,                                                                        \
      package_backend,                                                                     \
      nullptr,                                                                             \
      nullptr,                                                                             \
      package_version,                                                                     \
      package_flags,                                                                       \
      kernelhub_functions,                                                                 \
      static_cast<uint32_t>(sizeof(kernelhub_functions) / sizeof(kernelhub_functions[0])), \
      &::kernelhub::abi::detail::attach,                                                   \
      nullptr,                                                                             \
      &::kernelhub::abi::detail::detach};                                                  \
  extern "C" KH_EXPORT const kh_package* kernelhub_package_v1(uint32_t host_abi) {         \
    return host_abi >> 16 == KERNELHUB_ABI_MAJOR ? &kernelhub_descriptor : nullptr;        \
  }
