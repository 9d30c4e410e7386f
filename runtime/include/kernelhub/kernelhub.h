// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/get_kernel.h"
#include "kernelhub/loader/kernel.h"
#include "kernelhub/loader/package.h"
#include "kernelhub/loader/system.h"

/// Umbrella header of the torch-free API.
namespace kernelhub {}
namespace kh = kernelhub;
