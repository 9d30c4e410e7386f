// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"

#include <gtest/gtest.h>

#include <optional>

namespace kernelhub {

/// The Error that `f` throws; fails the test when it throws none.
template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no kernelhub::Error was thrown";
  return Error(ErrorCode{0}, "");
}

/// Code of the Error that `f` throws; nothing when it throws none.
template <class F>
std::optional<ErrorCode> code_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.code();
  }
  return {};
}

}  // namespace kernelhub
