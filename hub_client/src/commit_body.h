// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "http_transport.h"

#include "kernelhub/core/unique_fd.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kernelhub::hub {

std::string base64_encode(std::string_view bytes);

/// A request body of texts and files in order, read from disk while it is sent.
class ComposedBody final : public BodySource {
 public:
  enum class Encoding : std::uint8_t { kPlain, kBase64 };
  /// `progress` receives the bytes handed out so far; may be empty.
  explicit ComposedBody(std::function<void(std::uint64_t)> progress = {})
      : progress_(std::move(progress)) {}
  void add_text(std::string text);
  /// The file must keep `size_bytes` until it was sent; otherwise reading throws kIo.
  void add_file(std::filesystem::path source, std::uint64_t size_bytes, Encoding encoding);

  std::uint64_t size_bytes() const override { return size_bytes_; }
  void rewind() override;
  std::size_t read(char* buffer, std::size_t capacity) override;

 private:
  struct Part {
    std::string text;
    std::filesystem::path source;  // empty: the part is `text`
    std::uint64_t source_bytes = 0;
    Encoding encoding = Encoding::kPlain;
  };
  /// Puts the next bytes of the body into pending_; false at the end.
  bool refill();
  std::string next_block(const Part& part);
  std::vector<Part> parts_;
  std::uint64_t size_bytes_ = 0;
  std::function<void(std::uint64_t)> progress_;
  std::size_t part_ = 0;
  UniqueFd fd_;                   // of the part under way
  std::uint64_t read_bytes_ = 0;  // of its file
  std::string pending_;
  std::size_t pending_offset_ = 0;
  std::uint64_t sent_bytes_ = 0;
};

}  // namespace kernelhub::hub
