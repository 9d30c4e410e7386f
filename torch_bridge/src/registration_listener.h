// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/loader/torch_bridge.h"

#include <memory>

namespace kernelhub::loader {

/// Records the ops that the calling thread registers from now on.
std::unique_ptr<TorchBridge::Listener> listen_for_registrations();

}  // namespace kernelhub::loader
