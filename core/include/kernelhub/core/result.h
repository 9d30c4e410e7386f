// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"

#include <utility>
#include <variant>

namespace kernelhub {

/// A value or the Error that prevented it; returned only by the `try_*` twins.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Error error) : state_(std::move(error)) {}
  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  /// Rethrows the stored error when there is no value.
  const T& value() const;
  T& value();
  /// Only when !has_value().
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <class T>
const T& Result<T>::value() const {
  if (const Error* error = std::get_if<1>(&state_)) throw *error;
  return std::get<0>(state_);
}
template <class T>
T& Result<T>::value() {
  if (const Error* error = std::get_if<1>(&state_)) throw *error;
  return std::get<0>(state_);
}

/// Runs `f` and turns a thrown Error into a Result; other exceptions pass through.
template <class F>
auto catch_to_result(F&& f) -> Result<decltype(f())> {
  try {
    return f();
  } catch (const Error& error) {
    return error;
  }
}

}  // namespace kernelhub
