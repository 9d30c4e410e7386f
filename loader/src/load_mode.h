// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "shared_object.h"

#include "kernelhub/loader/package.h"
#include "kernelhub/loader/preflight.h"

#include <string>

namespace kernelhub::loader {

/// A library mapped in one of the modes of loader spec 5, with what the mode did to it.
struct OpenedObject {
  SharedObject object;
  UniqueFd sealed_copy;  // empty in fd mode
  bool python_weak = false;
};

/// What is opened: the verified file and what preflight read of it.
struct OpenRequest {
  const trust::VerifiedPackage::File& binary;
  const std::string& path;
  const ElfFacts& facts;
  bool sealed = false;
};

/// Maps the file, or a sealed copy of it: when asked to, and in a process without Python when the
/// references that only PyInit uses would be bound at once and must become weak (loader spec
/// P1-P3). Throws kFileChanged, kDlopenFailed, kIdentityMismatch.
OpenedObject open_object(const OpenRequest& request);

}  // namespace kernelhub::loader
