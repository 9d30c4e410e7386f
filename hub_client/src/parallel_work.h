// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>

namespace kernelhub::hub {

/// Runs `work(i, is_stopping)` for every i below `count`, in order of i, on at most `limit` threads
/// of which the caller is one. After the first exception no further item begins, `is_stopping`
/// turns true for those under way, and that exception is thrown once all have ended.
void run_in_parallel(
    std::size_t count, std::size_t limit,
    const std::function<void(std::size_t, const std::function<bool()>& is_stopping)>& work);

}  // namespace kernelhub::hub
