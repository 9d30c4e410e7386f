// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/loader/function.h"

#include <string>

namespace kernelhub {

struct Function::State {
  std::string name;
  Package package;
};

}  // namespace kernelhub
