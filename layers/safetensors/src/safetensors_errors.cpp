// SPDX-License-Identifier: Apache-2.0
#include "safetensors_errors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <system_error>

namespace kernelhub::layers::safetensors_errors {
namespace {

constexpr std::string_view kRemedy = "download or convert the file again";

LayerError invalid(const std::filesystem::path& path, const std::string& reason) {
  return LayerError(ErrorCode::kInvalidSafetensors,
                    fmt::format("invalid safetensors file {}: {}", path.string(), reason),
                    std::string(kRemedy));
}

}  // namespace

LayerError cannot_read(const std::filesystem::path& path, std::string_view call, int error_number) {
  return LayerError(ErrorCode::kIo, fmt::format("cannot read {}: {}: {}", path.string(), call,
                                                std::system_category().message(error_number)));
}

LayerError not_a_file(const std::filesystem::path& path) {
  return LayerError(ErrorCode::kIo,
                    fmt::format("cannot read {}: not a regular file", path.string()));
}

LayerError file_too_short(const std::filesystem::path& path, std::uint64_t size_bytes) {
  return invalid(path,
                 fmt::format("file has {} bytes, the header length alone takes 8", size_bytes));
}

LayerError header_too_large(const std::filesystem::path& path, std::uint64_t header_bytes,
                            std::uint64_t limit) {
  return invalid(path, fmt::format("header of {} bytes, at most {} are read", header_bytes, limit));
}

LayerError header_past_end(const std::filesystem::path& path, std::uint64_t header_bytes,
                           std::uint64_t file_bytes) {
  return invalid(path, fmt::format("header of {} bytes does not fit the file of {} bytes",
                                   header_bytes, file_bytes));
}

LayerError header_not_json(const std::filesystem::path& path, const Error& cause) {
  return invalid(path, fmt::format("header: {}", cause.what()));
}

LayerError too_many_tensors(const std::filesystem::path& path, std::uint64_t count,
                            std::uint64_t limit) {
  return invalid(path, fmt::format("{} tensors, at most {} are read", count, limit));
}

LayerError bad_entry(const std::filesystem::path& path, std::string_view tensor,
                     std::string_view field, std::string_view expected, std::string_view found) {
  return invalid(
      path, fmt::format("tensor '{}': {}: expected {}, found {}", tensor, field, expected, found));
}

LayerError size_mismatch(const std::filesystem::path& path, std::string_view tensor,
                         std::uint64_t shape_bytes, std::uint64_t begin, std::uint64_t end) {
  return invalid(path, fmt::format("tensor '{}': dtype and shape need {} bytes, data_offsets "
                                   "[{}, {}] hold {}",
                                   tensor, shape_bytes, begin, end, end - begin));
}

LayerError bad_offset(const std::filesystem::path& path, std::string_view tensor,
                      std::uint64_t begin, std::uint64_t wanted) {
  return invalid(path, fmt::format("tensor '{}': data begins at {}, the one before ends at {}",
                                   tensor, begin, wanted));
}

LayerError data_size(const std::filesystem::path& path, std::uint64_t data_bytes,
                     std::uint64_t wanted) {
  return invalid(path,
                 fmt::format("{} bytes of data, the header describes {}", data_bytes, wanted));
}

LayerError no_such_tensor(const std::filesystem::path& path, std::string_view tensor,
                          const std::vector<std::string>& near) {
  return LayerError(
      ErrorCode::kInvalidArgument, fmt::format("no tensor '{}' in {}", tensor, path.string()),
      near.empty() ? std::string() : fmt::format("names close to it: {}", fmt::join(near, ", ")));
}

}  // namespace kernelhub::layers::safetensors_errors
