// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tvm_ffi_library.h"

#include "kernelhub/abi/package.h"

namespace kernelhub::loader {

/// Services that this library gives to packages with a descriptor; lives forever.
const kh_host& host_table() noexcept;
/// Stream that kh_host.current_stream answers to the calling thread during a call; nothing:
/// torch's.
void set_thread_stream(std::optional<void*> stream) noexcept;
/// Moves the calling thread's error out of the host table and of libtvm_ffi, so that none stays
/// behind. Empty texts when a function failed without saying why.
RaisedError take_raised_error();

}  // namespace kernelhub::loader
