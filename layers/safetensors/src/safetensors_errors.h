// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernelhub/core/error.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

/// One factory per failure of the reader; each takes facts.
namespace kernelhub::layers::safetensors_errors {

LayerError cannot_read(const std::filesystem::path& path, std::string_view call, int error_number);
LayerError not_a_file(const std::filesystem::path& path);
LayerError file_too_short(const std::filesystem::path& path, std::uint64_t size_bytes);
LayerError header_too_large(const std::filesystem::path& path, std::uint64_t header_bytes,
                            std::uint64_t limit);
LayerError header_past_end(const std::filesystem::path& path, std::uint64_t header_bytes,
                           std::uint64_t file_bytes);
LayerError header_not_json(const std::filesystem::path& path, const Error& cause);
LayerError too_many_tensors(const std::filesystem::path& path, std::uint64_t count,
                            std::uint64_t limit);
LayerError bad_entry(const std::filesystem::path& path, std::string_view tensor,
                     std::string_view field, std::string_view expected, std::string_view found);
LayerError size_mismatch(const std::filesystem::path& path, std::string_view tensor,
                         std::uint64_t shape_bytes, std::uint64_t begin, std::uint64_t end);
LayerError bad_offset(const std::filesystem::path& path, std::string_view tensor,
                      std::uint64_t begin, std::uint64_t wanted);
LayerError data_size(const std::filesystem::path& path, std::uint64_t data_bytes,
                     std::uint64_t wanted);
LayerError no_such_tensor(const std::filesystem::path& path, std::string_view tensor,
                          const std::vector<std::string>& near);

}  // namespace kernelhub::layers::safetensors_errors
